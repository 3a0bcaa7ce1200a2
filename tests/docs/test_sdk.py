"""The reference of the SDK is what the code says."""

from __future__ import annotations

from sessiond import client as sdk
from sessiond.client import AsyncClient, Client
from tests.client.using import methods
from tests.docs.sdk import render, written


def test_the_reference_has_each_class_and_method_with_its_signature_and_nothing_else() -> None:
    assert written() == render(), "python -m tests.docs.sdk writes it anew"


def test_nothing_public_is_missing() -> None:
    text = render()
    for name in sdk.__all__:
        assert f"`{name}`" in text, name
    for name in {*methods(Client), *methods(AsyncClient)} - {"export"}:
        assert f"### `{name}`\n" in text, name
