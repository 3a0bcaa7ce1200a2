"""sessiond: a self-hosted session server for AI agents."""

from typing import Final

__version__: Final = "0.1.0"
