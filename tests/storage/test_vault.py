"""Keys in memory: how long they stay, and what goes with them."""

from __future__ import annotations

import pytest

from sessiond.core.errors import Damaged, Unavailable
from sessiond.core.ids import WorkspaceId
from sessiond.crypto import LocalMaster, make_key
from sessiond.storage import vault as vaults
from sessiond.storage.vault import REFUSED_SECONDS, REMEMBERED_SECONDS, KeyNeeded, Vault, damaged, root_place

HERE = WorkspaceId("here")
THERE = WorkspaceId("there")
STORAGE_KEY = "a storage key of some length"
MASTER = LocalMaster([make_key()])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_a_client_has_shown_is_forgotten_after_minutes_with_all_that_it_opens() -> None:
    clock = Clock()
    vault = Vault(None, clock=clock)
    vault.keep_shown(HERE, 1, make_key(), STORAGE_KEY)
    root = vault.find(HERE, 1)
    assert root is not None
    secret = make_key()
    vault.keep(HERE, root.unwrap(2, root.wrap(2, secret)))

    clock.now = REMEMBERED_SECONDS - 1
    assert vault.knows(HERE, 1, STORAGE_KEY)  # and stays some minutes longer
    clock.now += REMEMBERED_SECONDS - 1
    assert vault.holds(HERE, 1)
    assert vault.find(HERE, 2) is not None
    clock.now += 1

    assert vault.find(HERE, 2) is None
    assert not vault.holds(HERE, 1)
    assert not vault.knows(HERE, 1, STORAGE_KEY)


def test_nothing_stays_of_it_where_nobody_asks() -> None:
    clock = Clock()
    vault = Vault(None, clock=clock)
    vault.keep_shown(HERE, 1, make_key(), STORAGE_KEY)
    root = vault.find(HERE, 1)
    assert root is not None
    vault.keep(HERE, root.unwrap(2, root.wrap(2, make_key())))
    vault.keep_root(THERE, 3, make_key())

    clock.now = REMEMBERED_SECONDS
    vault.forget_old()

    assert (vault._ciphers, vault._shown, list(vault._roots)) == ({}, {}, [(THERE, 3)])
    assert STORAGE_KEY not in repr(vars(vault))


def test_only_the_key_that_was_shown_is_known() -> None:
    vault = Vault(None)
    vault.keep_shown(HERE, 1, make_key(), STORAGE_KEY)

    assert vault.knows(HERE, 1, STORAGE_KEY)
    assert not vault.knows(HERE, 1, STORAGE_KEY + "!")
    assert not vault.knows(HERE, 2, STORAGE_KEY)
    assert not vault.knows(THERE, 1, STORAGE_KEY)


def test_a_key_that_expired_is_not_known_again() -> None:
    clock = Clock()
    vault = Vault(None, clock=clock)
    vault.keep_shown(HERE, 1, make_key(), STORAGE_KEY)
    clock.now = REMEMBERED_SECONDS

    assert not vault.knows(HERE, 1, STORAGE_KEY)
    assert vault._shown == {}


def test_keys_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaults, "CIPHERS_MAX", 3)
    vault = Vault(None)
    root = vault.keep_root(HERE, 1, make_key())

    for key_id in range(2, 20):
        vault.keep(HERE, root.unwrap(key_id, root.wrap(key_id, make_key())))
        assert vault.find(HERE, key_id) is not None
        assert len(vault._ciphers) <= 3


def test_a_key_opens_what_it_has_sealed_at_its_place_only() -> None:
    vault = Vault(None)
    here, there = vault.keep_root(HERE, 1, make_key()), vault.keep_root(THERE, 1, make_key())
    sealed = here.seal(b"plain", "event", "s", 7)

    assert here.open(sealed, "event", "s", 7) == b"plain"
    for cipher, place in ((here, ("event", "s", 8)), (here, ("event", "s7", "")), (there, ("event", "s", 7))):
        with pytest.raises(Damaged, match=r"^event s"):
            cipher.open(sealed, *place)
    for changed in (sealed[:3], b"\x02" + sealed[1:], sealed[:5] + bytes([sealed[5] ^ 1]) + sealed[6:]):
        with pytest.raises(Damaged, match="event s 7 cannot be opened"):
            here.open(changed, "event", "s", 7)


async def test_the_master_key_unwraps_what_an_operation_needs() -> None:
    vault, secret = Vault(MASTER), make_key()
    needed = KeyNeeded(HERE, 1, MASTER.wrap(secret, root_place(HERE, 1)))

    for _ in range(3):  # many may have met it at once
        await vault.settle(needed, 0)

    found = vault.find(HERE, 1)
    assert found is not None
    assert (found.secret, found.until, found.root) == (secret, None, found)


async def test_any_number_of_keys_may_be_needed_by_one_operation() -> None:
    vault = Vault(MASTER)

    for number in range(50):
        await vault.settle(KeyNeeded(HERE, number, MASTER.wrap(make_key(), root_place(HERE, number))), number)

    assert all(vault.holds(HERE, number) for number in range(50))


async def test_a_key_that_the_master_key_does_not_open_is_passed_by_for_a_while() -> None:
    clock = Clock()
    vault = Vault(MASTER, clock=clock)

    with pytest.raises(Unavailable, match="wrapped by another master key"):
        await vault.settle(KeyNeeded(HERE, 1, MASTER.wrap(make_key(), root_place(THERE, 1))), 0)

    assert vault.refused() == [HERE]
    clock.now = REFUSED_SECONDS
    assert vault.refused() == []
    vault.forget_old()
    assert vault._refused == {}


async def test_without_a_master_key_it_says_what_is_missing() -> None:
    with pytest.raises(Unavailable, match="started without SESSIOND_MASTER_KEY"):
        await Vault(None).settle(KeyNeeded(HERE, 1, b""), 0)


async def test_what_is_damaged_is_looked_at_twice() -> None:
    error = damaged("session", "s")

    await Vault(None).settle(error, 0)
    with pytest.raises(Damaged, match="session s"):
        await Vault(None).settle(error, 1)
