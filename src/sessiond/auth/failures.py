"""Who sends wrong keys again and again: counted for each address, in memory that does not grow. Knows no key."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sessiond.core.address import network_of
from sessiond.core.errors import TooMany

log: Final = logging.getLogger("sessiond.auth")

WINDOW_SECONDS: Final = 60.0  # long enough that guessing is hopeless, short enough to wait after a mistake
NETWORKS_MAX: Final = 10_000  # about 2 MB; who has more addresses than that is not stopped by counting them
TELL_SECONDS: Final = 60.0  # one line in the log a minute, however many addresses misbehave


class Failures:
    """Counts for each address, and refuses those that failed too often.

    An address may fail `most` times at once, and from then on as often as `most` in a minute comes to. Kept is one
    number for each: the time at which all its failures are forgiven, which each failure puts off by an equal share.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` are the failures of a minute; 0 means that nobody is refused."""
        self._share = WINDOW_SECONDS / most if most else 0.0
        # Half a share below what `most` of them come to, so that rounding does not decide.
        self._full = WINDOW_SECONDS - self._share / 2
        self._clock = clock
        self._forgiven_at: OrderedDict[str, float] = OrderedDict()
        self._told_at = -math.inf

    def check(self, address: str) -> None:
        """Return if something from this address may be tried.

        Raises:
            TooMany: it failed too often; the error says when to come back.
        """
        forgiven_at = self._forgiven_at.get(network_of(address)) if self._share else None
        if forgiven_at is None:
            return
        left = forgiven_at - self._clock() - self._full
        if left > 0:
            raise TooMany("too many wrong keys from this address", retry_after_seconds=math.ceil(left))

    def note_failure(self, address: str) -> None:
        """Count a failure. An IPv6 network of 64 bits counts as one address."""
        if not self._share:
            return
        network, now = network_of(address), self._clock()
        forgiven_at = max(self._forgiven_at.pop(network, now), now) + self._share
        self._forgiven_at[network] = min(forgiven_at, now + WINDOW_SECONDS)  # as many may be under way at once
        if len(self._forgiven_at) > NETWORKS_MAX:
            self._forgiven_at.popitem(last=False)
        if forgiven_at - now > self._full and now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            log.warning("too many wrong keys: address=%s (if it is a proxy, name it with --trusted-proxies)", network)
