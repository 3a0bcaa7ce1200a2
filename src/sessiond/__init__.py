"""sessiond: a self-hosted session server for AI agents.

    from sessiond import Client

`Client` and `AsyncClient` are the SDK (`sessiond.client`); the server is behind the command `sessiond`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sessiond.client import AsyncClient as AsyncClient
    from sessiond.client import Client as Client

__version__: Final = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the SDK when it is asked for: the server and its commands do without."""
    if name in ("AsyncClient", "Client"):
        from sessiond import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
