"""Everything a caller can be told went wrong.

    SessiondError
    ├── InvalidInput        what was sent breaks a rule; `field` names the part
    ├── TooLarge            what was sent is over a limit of size
    ├── Unauthenticated     no key, or not a good one
    ├── Forbidden           a good key, but not for this
    ├── NotFound            no such thing in the caller's workspace
    ├── Conflict            the thing's state does not allow it
    ├── PreconditionFailed  the thing has changed since the caller looked
    ├── KeyReused           an idempotency key came back with another request
    ├── Damaged             what is stored cannot be opened: it was changed, or moved, or its key is gone
    ├── TooMany             one address was wrong too often; later it may try again
    └── Unavailable         not now; the same request may succeed later
        └── Locked          the content is sealed with a key that a client holds, and nobody has sent it

An action raises nothing else. Any other exception is a bug: `web` logs it once and answers "internal error".
Each wire maps these classes to its own statuses and words, in one table.
"""

from __future__ import annotations


class SessiondError(Exception):
    """A refusal with a sentence for the caller: lower case, no full stop, naming the thing meant."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(SessiondError):
    pass


class TooLarge(SessiondError):
    pass


class Unauthenticated(SessiondError):
    pass


class Forbidden(SessiondError):
    pass


class NotFound(SessiondError):
    pass


class Conflict(SessiondError):
    pass


class PreconditionFailed(SessiondError):
    pass


class KeyReused(SessiondError):
    pass


class Damaged(SessiondError):
    pass


class TooMany(SessiondError):
    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(SessiondError):
    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Locked(Unavailable):
    """For work that nobody waits for, as good as unavailable: until somebody shows the key."""

    def __init__(self) -> None:
        super().__init__("this workspace is sealed with a storage key: send it in the header storage-key")
        self.field = "storage-key"
