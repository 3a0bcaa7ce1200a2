from sessiond.dialects.native import shapes
from sessiond.dialects.native.routes import render
from sessiond.web.routes import Dialect

DIALECT = Dialect(
    name="agentinbox",
    title="agentinbox",
    prefix="/agentinbox",
    routes=(),
    render=render,
    error=shapes.ProblemOut,
)
