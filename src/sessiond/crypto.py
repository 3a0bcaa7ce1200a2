"""Secrets: made from the system's randomness, kept only as hashes; and signatures."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX: Final = "sd_"  # lets people and secret scanners recognise a key
_RANDOM_BYTES: Final = 32


class SigningKey(msgspec.Struct, frozen=True):
    """A pair of Ed25519, each half as 32 bytes."""

    public: bytes
    private: bytes


def make_secret() -> str:
    """Return a new API key, 46 characters of which 43 carry 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a key. A plain SHA-256: 256 random bits need no slow hash against guessing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def make_database_id_hash() -> str:
    """Return a name for a workspace: 64 hex characters that tell nothing about it."""
    return secrets.token_hex(32)


def make_salt() -> bytes:
    """Return what makes a hash of something short hard to guess."""
    return secrets.token_bytes(16)


def make_signing_key() -> SigningKey:
    private = Ed25519PrivateKey.generate()
    return SigningKey(public=private.public_key().public_bytes_raw(), private=private.private_bytes_raw())


def sign(key: SigningKey, text: bytes) -> bytes:
    """Return the signature of a text, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(key.private).sign(text)


def is_signed(public: bytes, text: bytes, signature: bytes) -> bool:
    """Whether a text was signed by whoever has the private half of a key, and is as it was then."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
