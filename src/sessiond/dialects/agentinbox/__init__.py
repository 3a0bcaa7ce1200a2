"""AgentInbox: sessions that group inboxes and waits; timeline and replay."""

from sessiond.dialects.agentinbox.routes import DIALECT

__all__ = ["DIALECT"]
