"""Postings: which messages have a token, packed, in segments that are written once and later merged into larger ones.

A token is 64 bits, a message is a number, `doc`, that grows with the time at which it was said. A segment is cut into
2**bits buckets by the first bits of the tokens, so that a look for one token reads one small bucket of each segment.

It knows no database and no word: tokens are keyed hashes, made here from what `core/search.py` says of a text.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final

import msgspec

from sessiond.core.search import UNIT_MAX_CHARS, fold_key, index_keys

BUCKET_BYTES: Final = 4_000  # a page of SQLite's; PostgreSQL compares nothing in it and stores it as it is
BITS_MAX: Final = 16
TOKEN_BITS: Final = 64
TICKS: Final = 8  # bits of a doc behind the microsecond: docs in order for so many messages at the same time
TICKS_PER_US: Final = 1 << TICKS

WORD: Final = b"word"
NAME: Final = b"name"

Docs = Mapping[int, bytes]
"""For each token its docs, packed."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment is like; its buckets are kept beside it."""

    id: int
    key_id: int
    """Of the index key that its tokens were made with."""
    docs: int
    bits: int
    oldest: int
    newest: int
    """Its first and last doc."""
    dirty: bool = False
    """Whether some of its docs may be gone."""


def make_token(secret: bytes, kind: bytes, text: str) -> int:
    """Return the keyed hash of a text, as an unsigned number; what is of another kind has another."""
    hashing = _keyed(secret, kind)
    hashing.update(text.encode())
    return int.from_bytes(hashing.digest(), "big")


def _keyed(secret: bytes, kind: bytes) -> blake2b:
    return blake2b(digest_size=8, key=secret, person=kind)


def first_doc(at_us: int) -> int:
    """Return the least doc of a message of that time."""
    return at_us << TICKS


def latest_us(doc: int) -> int:
    """Return when a message was said at the latest; earlier only where very many were said at the same time."""
    return doc >> TICKS


class Gatherer:
    """Makes the postings of messages, one after another. What it has folded and hashed it need not again.

    `tokens` remembers that beyond this one: only for what is not secret, and by the same secret.
    """

    def __init__(self, secret: bytes, tokens: dict[str, int] | None = None) -> None:
        # Hashing from a copy spares a third of it: the key is worked in once.
        self._hash = _keyed(secret, WORD)
        self._tokens = tokens if tokens is not None else {}
        self._docs: dict[str, bytes] = {}

    def add(self, doc: int, text: str) -> None:
        docs, packed = self._docs, doc.to_bytes(8, sys.byteorder)
        for key in index_keys(text):
            docs[key] = docs[key] + packed if key in docs else packed

    def gathered(self) -> dict[int, bytes]:
        known, found = self._tokens, dict[int, bytes]()
        for key, docs in self._docs.items():
            token = known.get(key)
            if token is None:
                token = known[key] = self._token(key)
            # Two ways to write a word are one token.
            found[token] = _united(found[token], docs) if token in found else docs
        found.pop(_NO_TOKEN, None)
        return found

    def _token(self, key: str) -> int:
        if len(key) > UNIT_MAX_CHARS and "\0" not in key:
            return _NO_TOKEN
        hashing = self._hash.copy()
        hashing.update(fold_key(key).encode())
        return int.from_bytes(hashing.digest(), "big")


_NO_TOKEN: Final = -1
"""What is too long to be a word has."""


def _united(some: bytes, others: bytes) -> bytes:
    return array("Q", sorted({*numbers(some), *numbers(others)})).tobytes()


def bits_for(docs: Docs) -> int:
    """Return into how many buckets postings are to be cut."""
    return bits_for_bytes(sum(map(len, docs.values())) + 12 * len(docs))


def bits_for_bytes(size: int) -> int:
    return min(BITS_MAX, max(0, (size // BUCKET_BYTES).bit_length()))


def bucket_of(token: int, bits: int) -> int:
    return token >> (TOKEN_BITS - bits)


def pack(docs: Docs, bits: int) -> Iterator[tuple[int, bytes]]:
    """Yield the buckets that have something, in order, each packed: how many tokens, those, where the docs of each end,
    and all docs."""
    ordered = sorted(docs)
    start = 0
    while start < len(ordered):
        bucket = bucket_of(ordered[start], bits)
        end = bisect_left(ordered, (bucket + 1) << (TOKEN_BITS - bits), start)
        yield bucket, _pack_bucket(docs, ordered[start:end])
        start = end


def unpack(bucket: bytes) -> dict[int, bytes]:
    """Return what a bucket has."""
    tokens, ends, docs = _parts(bucket)
    found, start = dict[int, bytes](), 0
    for token, end in zip(tokens, ends, strict=True):
        found[token] = bytes(docs[8 * start : 8 * end])
        start = end
    return found


def look_up(bucket: bytes, token: int) -> array[int]:
    """Return the docs that have a token."""
    tokens, ends, docs = _parts(bucket)
    place = bisect_left(tokens, token)
    found = array("Q")
    if place < len(tokens) and tokens[place] == token:
        found.frombytes(docs[8 * (ends[place - 1] if place else 0) : 8 * ends[place]])
    return found


def merge(buckets: Iterable[bytes], alive: Collection[int] | None = None) -> dict[int, bytes]:
    """Return what buckets have together; with `alive`, of these docs only."""
    merged: dict[int, bytes] = {}
    for bucket in buckets:
        for token, docs in unpack(bucket).items():
            merged[token] = merged[token] + docs if token in merged else docs
    if alive is None:
        return merged
    kept = {token: array("Q", filter(alive.__contains__, numbers(docs))) for token, docs in merged.items()}
    return {token: docs.tobytes() for token, docs in kept.items() if docs}


def _pack_bucket(docs: Docs, tokens: Sequence[int]) -> bytes:
    packed = [docs[token] for token in tokens]
    ends = array("I", accumulate(len(each) // 8 for each in packed))
    count = len(tokens).to_bytes(8, sys.byteorder)
    return b"".join((count, array("Q", tokens).tobytes(), ends.tobytes(), *packed))


def _parts(bucket: bytes) -> tuple[array[int], array[int], memoryview]:
    view, count = memoryview(bucket), int.from_bytes(bucket[:8], sys.byteorder)
    tokens, ends = array("Q"), array("I")
    tokens.frombytes(view[8 : 8 + 8 * count])
    ends.frombytes(view[8 + 8 * count : 8 + 12 * count])
    return tokens, ends, view[8 + 12 * count :]


def numbers(docs: bytes) -> array[int]:
    """Return packed docs as numbers."""
    found = array("Q")
    found.frombytes(docs)
    return found
