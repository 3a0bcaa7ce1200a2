from sessiond.dialects.native import shapes
from sessiond.dialects.native.routes import render
from sessiond.web.routes import Dialect

DIALECT = Dialect(
    name="operativus",
    title="operativus",
    prefix="/operativus",
    routes=(),
    render=render,
    error=shapes.ProblemOut,
)
