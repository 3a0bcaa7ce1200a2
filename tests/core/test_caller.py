"""What a caller may do."""

from __future__ import annotations

import pytest

from sessiond.core.caller import Caller, Scope
from sessiond.core.errors import Forbidden
from sessiond.core.ids import KeyId, WorkspaceId


def caller(*scopes: Scope, user_id: str | None = None) -> Caller:
    return Caller(
        workspace_id=WorkspaceId("w"),
        database_id_hash="0" * 64,
        key_id=KeyId("key"),
        scopes=frozenset(scopes),
        user_id=user_id,
    )


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("wanted", Scope)
def test_a_scope_allows_itself_and_no_other(held: Scope, wanted: Scope) -> None:
    if held is wanted:
        caller(held).require(wanted)
    else:
        with pytest.raises(Forbidden, match=wanted):
            caller(held).require(wanted)


def test_a_caller_bound_to_a_user_names_no_other() -> None:
    caller().require_own("anybody")
    caller(user_id="me").require_own("me")
    for other in ("you", "", None):
        with pytest.raises(Forbidden):
            caller(user_id="me").require_own(other)
