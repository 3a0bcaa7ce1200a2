"""Viben gateway: sessions for task execution."""

from sessiond.dialects.viben.routes import DIALECT

__all__ = ["DIALECT"]
