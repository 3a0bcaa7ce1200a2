"""Open Agents Builder: sessions of a chat agent."""

from sessiond.dialects.openagents.routes import DIALECT

__all__ = ["DIALECT"]
