"""Secrets: made from the system's randomness, kept only as hashes."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

PREFIX: Final = "sd_"  # lets people and secret scanners recognise a key
_RANDOM_BYTES: Final = 32


def make_secret() -> str:
    """Return a new API key, 46 characters of which 43 carry 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a key. A plain SHA-256: 256 random bits need no slow hash against guessing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def make_database_id_hash() -> str:
    """Return a name for a workspace: 64 hex characters that tell nothing about it."""
    return secrets.token_hex(32)
