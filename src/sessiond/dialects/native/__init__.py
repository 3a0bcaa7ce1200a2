"""`/v1`: everything the core can do."""

from sessiond.dialects.native.routes import DIALECT

__all__ = ["DIALECT"]
