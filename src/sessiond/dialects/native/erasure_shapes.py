"""What goes over the native wire of erasures. A receipt is the same wherever it is read: it is signed."""

from __future__ import annotations

import msgspec

from sessiond.core.erasure import Receipt


class ErasurePage(msgspec.Struct, frozen=True):
    data: list[Receipt]
    next_cursor: str | None
    prev_cursor: None
