"""Operativus Agent Manager: paged sessions with full history, and their runs."""

from sessiond.dialects.operativus.routes import DIALECT

__all__ = ["DIALECT"]
