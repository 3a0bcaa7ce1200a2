"""What can go wrong between HTTP and an action."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.core.errors import SessiondError


class Internal(SessiondError):
    """A bug. What it was stands in the log under the request's id."""


class MethodNotAllowed(SessiondError):
    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"this path answers {self.allowed} only")
