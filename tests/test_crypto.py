"""Secrets: what is sealed opens at its own place with its own key, and otherwise not at all."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sessiond import crypto
from sessiond.crypto import (
    KEY_BYTES,
    MASTER_KEY_VARIABLE,
    SEALED_MORE_BYTES,
    LocalMaster,
    NotOpened,
    SecretError,
    key_id_of,
    load_master,
    make_key,
    make_key_id,
    make_master_key,
    seal,
    unseal,
    unwrap_by_client,
    wrap_by_client,
)

KEY = bytes(range(KEY_BYTES))
WRITTEN = base64.b64encode(b"a master key of exactly 32 bytes").decode()
CIPHER = AESGCM(KEY)
STORAGE_KEY = "a storage key of some length"


@given(st.binary(max_size=300), st.binary(max_size=50), st.integers(1, 2**62))
def test_what_is_sealed_opens_at_its_place(plain: bytes, place: bytes, key_id: int) -> None:
    sealed = seal(CIPHER, key_id, plain, place)

    assert unseal(CIPHER, sealed, place) == plain
    assert (crypto.is_sealed(sealed), key_id_of(sealed)) == (True, key_id)
    assert len(sealed) == len(plain) + SEALED_MORE_BYTES


@given(st.binary(max_size=100), st.binary(max_size=20), st.binary(max_size=20))
def test_elsewhere_and_with_another_key_it_does_not_open(plain: bytes, place: bytes, elsewhere: bytes) -> None:
    sealed = seal(CIPHER, 1, plain, place)

    if place != elsewhere:
        with pytest.raises(NotOpened):
            unseal(CIPHER, sealed, elsewhere)
    with pytest.raises(NotOpened):
        unseal(AESGCM(make_key()), sealed, place)


def test_no_bit_of_a_sealed_text_can_be_another() -> None:
    sealed = seal(CIPHER, make_key_id(), b"plain", b"place")

    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        # Who reads takes the key that the text names, and what does not begin as a sealed text for no sealed text.
        if crypto.is_sealed(bytes(changed)) and key_id_of(bytes(changed)) == key_id_of(sealed):
            with pytest.raises(NotOpened):
                unseal(CIPHER, bytes(changed), b"place")
        else:
            assert bit < 8 * 9


@given(st.binary(max_size=SEALED_MORE_BYTES - 1))
def test_what_is_too_short_is_refused(text: bytes) -> None:
    with pytest.raises(NotOpened):
        key_id_of(text)
    with pytest.raises(NotOpened):
        unseal(CIPHER, text, b"")


def test_the_same_text_is_never_sealed_alike() -> None:
    assert len({seal(CIPHER, 1, b"same", b"place") for _ in range(100)}) == 100


def test_ids_of_keys_fit_a_bigint_and_are_not_zero() -> None:
    ids = {make_key_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(0 < key_id < 2**62 for key_id in ids)


def test_a_master_key_unwraps_what_it_has_wrapped() -> None:
    old, new = make_key(), make_key()
    wrapped = LocalMaster([old]).wrap(KEY, b"place")

    assert LocalMaster([old]).unwrap(wrapped, b"place") == KEY
    assert LocalMaster([new, old]).unwrap(wrapped, b"place") == KEY  # the first wraps, all unwrap
    for master, text, place in (
        (LocalMaster([new]), wrapped, b"place"),
        (LocalMaster([old]), wrapped, b"elsewhere"),
        (LocalMaster([old]), wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"place"),
        (LocalMaster([old]), b"", b"place"),
    ):
        with pytest.raises(NotOpened):
            master.unwrap(text, place)


def test_a_storage_key_unwraps_what_it_has_wrapped() -> None:
    wrapped, salt, verifier = wrap_by_client(KEY, STORAGE_KEY, b"place")

    assert unwrap_by_client(wrapped, salt, verifier, STORAGE_KEY, b"place") == KEY
    assert unwrap_by_client(wrapped, salt, verifier, STORAGE_KEY + "!", b"place") is None
    assert unwrap_by_client(wrapped, bytes(16), verifier, STORAGE_KEY, b"place") is None
    with pytest.raises(NotOpened):
        unwrap_by_client(wrapped, salt, verifier, STORAGE_KEY, b"elsewhere")
    assert STORAGE_KEY.encode() not in wrapped + salt + verifier
    assert wrap_by_client(KEY, STORAGE_KEY, b"place")[1:] != (salt, verifier)


def test_master_keys_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    first, second = make_master_key(), make_master_key()
    file = tmp_path / "master.key"
    file.write_text(f"# since May\n{first}\n\n  {second}  \n")
    wrapped = LocalMaster([base64.b64decode(second)]).wrap(KEY, b"")

    from_file = load_master({}, file=str(file))
    from_environment = load_master({MASTER_KEY_VARIABLE: second}, file=str(file))

    assert from_file is not None
    assert from_environment is not None
    assert from_file.unwrap(wrapped, b"") == from_environment.unwrap(wrapped, b"") == KEY
    assert load_master({}) is None
    assert load_master({MASTER_KEY_VARIABLE: ""}) is None


@pytest.mark.parametrize(
    "written",
    [WRITTEN[:-4], "x" + WRITTEN, "Ünïcode-of-some-length", base64.b64encode(b"k" * 31).decode()],
    ids=["short", "no base64", "no ASCII", "31 bytes"],
)
def test_a_bad_master_key_is_refused_without_being_shown(written: str, tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    file.write_text(written)

    for environment, named in (({}, str(file)), ({MASTER_KEY_VARIABLE: written}, None)):
        with pytest.raises(SecretError, match="must be 32 bytes in base64") as caught:
            load_master(environment, file=named)
        assert written not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_file_without_a_master_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")

    for name, words in (("missing", "FileNotFoundError"), ("empty", "holds no key"), ("binary", "UnicodeDecodeError")):
        with pytest.raises(SecretError, match=words):
            load_master({}, file=str(tmp_path / name))
