"""Secrets: made from the system's randomness. Keys that open a door are kept as hashes, keys that open a text wrapped.

What is sealed is `version | key id | nonce | ciphertext`, by AES-256-GCM with the place where it stands as associated
data: moved to another place it does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PREFIX: Final = "sd_"  # lets people and secret scanners recognise a key
_RANDOM_BYTES: Final = 32

KEY_BYTES: Final = 32
MASTER_KEY_VARIABLE: Final = "SESSIOND_MASTER_KEY"
MASTER_KEY_FILE_VARIABLE: Final = "SESSIOND_MASTER_KEY_FILE"
STORAGE_KEY_VARIABLE: Final = "SESSIOND_STORAGE_KEY"
SECRET_VARIABLES: Final = (MASTER_KEY_VARIABLE, MASTER_KEY_FILE_VARIABLE, STORAGE_KEY_VARIABLE)
"""What no program that an agent is may find in its environment."""

SEALED: Final = b"\x01"
"""What a sealed text begins with. No JSON does, nor a mail."""
_HEADER: Final = struct.Struct(">cq")
HEAD_BYTES: Final = _HEADER.size
"""What says which key a sealed text has."""
_NONCE_BYTES: Final = 12
SEALED_MORE_BYTES: Final = _HEADER.size + _NONCE_BYTES + 16
"""By how much a sealed text is longer than the plain one."""

STORAGE_KEY_MIN_CHARS: Final = 16
STORAGE_KEY_MAX_CHARS: Final = 1_024  # it is a header, of which servers take some KiB
# 32 MiB and about 0.1 s to a guess (RFC 7914; OWASP's second choice for interactive use).
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
_SALT_BYTES: Final = 16


class NotOpened(Exception):
    """A sealed text was changed, or moved, or is of another key."""


class SecretError(Exception):
    """A key that somebody set up cannot be used; the message says which, and never what it is."""


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


def make_key() -> bytes:
    return os.urandom(KEY_BYTES)


def make_key_id() -> int:
    """Return an id for a key: 62 random bits, which both databases keep in a bigint."""
    return secrets.randbits(62) | 1


def is_sealed(text: bytes) -> bool:
    return text[:1] == SEALED


def key_id_of(sealed: bytes) -> int:
    """Return the id of the key that a sealed text names.

    Raises:
        NotOpened: it is too short to be one.
    """
    if len(sealed) < SEALED_MORE_BYTES:
        raise NotOpened
    key_id: int = _HEADER.unpack_from(sealed)[1]
    return key_id


def seal(cipher: AESGCM, key_id: int, plain: bytes, place: bytes) -> bytes:
    """Return `plain` sealed, to be opened at the same `place` only.

    Nonces are random: a key seals far fewer than the 2^32 texts after which two might be the same.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return _HEADER.pack(SEALED, key_id) + nonce + cipher.encrypt(nonce, plain, place)


def unseal(cipher: AESGCM, sealed: bytes, place: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        NotOpened: it was changed, or comes from another place or key.
    """
    start = _HEADER.size + _NONCE_BYTES
    try:
        return cipher.decrypt(sealed[_HEADER.size : start], sealed[start:], place)
    except (InvalidTag, ValueError) as error:
        raise NotOpened from error


def derive(key: bytes, purpose: str) -> bytes:
    """Return a key of its own for a purpose."""
    return hmac.digest(key, purpose.encode(), "sha256")


class Master(Protocol):
    """Who holds the key that wraps the keys of workspaces: this process, or a service that never lets it out.

    Its methods may take their time: they are called in a thread, once for each key in a process's life.
    """

    def wrap(self, key: bytes, place: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, place: bytes) -> bytes:
        """Return the key.

        Raises:
            NotOpened: it was wrapped by another master key, or for another place.
        """
        ...


class LocalMaster:
    """Master keys in this process's memory: the first wraps, all of them unwrap, so that one can follow another."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESGCM(key) for key in keys]

    def wrap(self, key: bytes, place: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, key, place)

    def unwrap(self, wrapped: bytes, place: bytes) -> bytes:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], place)
            except (InvalidTag, ValueError):
                continue
        raise NotOpened


def make_master_key() -> str:
    """Return a new master key as it is written down."""
    return base64.b64encode(make_key()).decode()


def load_master(environment: Mapping[str, str], *, file: str | None = None) -> LocalMaster | None:
    """Return the master keys that the environment or a file holds, one a line; None where there are none.

    Raises:
        SecretError: the file cannot be read, or a line is not 32 bytes in base64.
    """
    written, place = environment.get(MASTER_KEY_VARIABLE), MASTER_KEY_VARIABLE
    if not written and file:
        place = f"the master key file {file}"
        try:
            written = Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"{place} cannot be read: {type(error).__name__}") from error
    lines = [line.strip() for line in (written or "").splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        if file:
            raise SecretError(f"{place} holds no key: make one with sessiond encryption new-key")
        return None
    return LocalMaster([_read_key(line, place) for line in lines])


def _read_key(line: str, place: str) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SecretError(f"{place} must be 32 bytes in base64: make one with sessiond encryption new-key") from None
    return key


def wrap_by_client(key: bytes, storage_key: str, place: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a key wrapped by what a client holds, with the salt and the verifier that are kept beside it.

    Takes about 0.1 s, on purpose.
    """
    salt = os.urandom(_SALT_BYTES)
    wrapping, verifier = _stretch(storage_key, salt)
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(wrapping).encrypt(nonce, key, place), salt, verifier


def unwrap_by_client(wrapped: bytes, salt: bytes, verifier: bytes, storage_key: str, place: bytes) -> bytes | None:
    """Return the key, or None when the client's is another. Takes about 0.1 s, on purpose."""
    wrapping, found = _stretch(storage_key, salt)
    if not hmac.compare_digest(found, verifier):
        return None
    try:
        return AESGCM(wrapping).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise NotOpened from error


def _stretch(storage_key: str, salt: bytes) -> tuple[bytes, bytes]:
    stretched = hashlib.scrypt(storage_key.encode("utf-8", "surrogateescape"), salt=salt, dklen=64, **_SCRYPT)
    return stretched[:KEY_BYTES], hashlib.sha256(stretched[KEY_BYTES:]).digest()


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
