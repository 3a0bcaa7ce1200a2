"""The part of the SDK's reference that the code says itself: every class and method, its signature, its docstring.

`python -m tests.docs.sdk` writes it into the page anew.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

from msgspec import Struct

from sessiond import AsyncClient, Client
from sessiond import client as sdk
from sessiond.client import SessiondError
from sessiond.client.messages import Content, Role
from sessiond.client.resource import Async, Iterated, Method, Sync
from sessiond.client.sessions import Strategy
from sessiond.client.waits import WaitedFor, WaitType
from tests.client.using import RESOURCES
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "sdk.md"
BEGIN: Final = "<!-- What follows is made of the code by tests/docs/sdk.py. -->\n"
WIDTH: Final = 100


def render() -> str:
    """Return all of it as Markdown."""
    return "\n".join(part.strip() + "\n" for part in _parts())


def written() -> str:
    """Return what the page has of it."""
    return PAGE.read_text().partition(f"{BEGIN}\n")[2]


def write() -> None:
    text = PAGE.read_text()
    PAGE.write_text(f"{text.partition(BEGIN)[0]}{BEGIN}\n{render()}")


def _parts() -> Iterator[str]:
    yield "## `Client`"
    yield _text(Client.__doc__)
    yield _signature("Client", inspect.signature(Client.__init__), "Client")
    yield _text(Client.__init__.__doc__)
    yield _signature("Client.local", inspect.signature(Client.local), "Client")
    yield _text(Client.local.__doc__)
    yield _signature("client.export", inspect.signature(Client.export))
    yield _text(Client.export.__doc__)
    yield _signature("client.close", inspect.signature(Client.close))
    yield _text(Client.close.__doc__)
    yield "## `AsyncClient`"
    yield _text(AsyncClient.__doc__)
    yield (
        "It is made, and has its calls, as `Client`. Each returns a coroutine, an `AsyncIterator` in place of an\n"
        "`Iterator`, or an `AsyncGenerator` in place of a `Generator`."
    )
    made = Client("sd_none", "http://127.0.0.1:1")
    for resource in RESOURCES:
        yield f"## `client.{resource}`"
        yield from _calls(resource, type(getattr(made, resource)))
    yield "## Types"
    yield "\n".join(_aliases())
    public = [getattr(sdk, name) for name in sdk.__all__]
    for kind in public:
        if issubclass(kind, Struct):
            yield f"### `{kind.__name__}`"
            yield _text(kind.__doc__)
            yield "\n".join(_fields(kind))
    yield "## Errors"
    yield "\n".join(_errors(SessiondError))


def _calls(resource: str, owner: type) -> Iterator[str]:
    seen = set[str]()
    for kind in (*reversed([base for base in owner.__mro__ if base not in (object, Sync, Async)]),):
        for name, member in vars(kind).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            yield f"### `{resource}.{name}`"
            yield from _call(f"{resource}.{name}", member)


def _call(name: str, member: Any) -> Iterator[str]:
    make = getattr(member, "_make", member)
    signature = inspect.signature(make)
    returned = re.sub(r"^Call\[(.*)\]$", r"\1", str(signature.return_annotation))
    if isinstance(member, Iterated):
        each = re.sub(r"^Page\[(.*)\]$", r"\1", returned).removesuffix("Page")
        yield f"```\n{name}(…) -> Iterator[{each}]\n```"
        yield f"All of what `{_name_of(make)}` returns, page after page; `limit` is how many are read at once."
    else:
        yield _signature(name, signature, "MailFound" if isinstance(member, WaitedFor) else returned)
        yield _text(member.__doc__)
    assert isinstance(member, Iterated | Method | WaitedFor) or inspect.isfunction(member)


def _name_of(make: Any) -> str:
    """Return the method that a call of a page is."""
    client = Client("sd_none", "http://127.0.0.1:1")
    for resource in RESOURCES:
        owner = type(getattr(client, resource))
        for name in dir(owner):
            member = inspect.getattr_static(owner, name)
            if isinstance(member, Method) and member._make is make:
                return f"{resource}.{name}"
    raise AssertionError(f"no method returns a page of {make}")


def _signature(name: str, signature: inspect.Signature, returned: str | None = None) -> str:
    parameters = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    returned = returned or str(signature.return_annotation)
    shown, named = list[str](), False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not named:
            named = True
            shown.append("*")
        default = "" if one.default is one.empty else f" = {one.default!r}"
        shown.append(f"{one.name}: {one.annotation}{default}".replace("'", '"'))
    line = f"{name}({', '.join(shown)}) -> {returned}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + f") -> {returned}"
    return f"```\n{line}\n```"


def _text(docstring: str | None) -> str:
    """Return a docstring as Markdown: what is indented in it is code, but for what it raises."""
    text = inspect.cleandoc(docstring or "")
    assert text, "everything public says what it is"
    text, _, raised = text.partition("\nRaises:\n")
    text = re.sub(r"(?m)(?:^    .*\n)+", _code, text + "\n").strip()
    if raised:
        lines = re.sub(r"\n\s{5,}", " ", raised).strip().splitlines()
        raises = (re.sub(r"^\s*([\w.`]+): ", r"- `\1`: ", line) for line in lines)
        text += "\n\nRaises:\n\n" + "\n".join(raises)
    return text


def _code(found: re.Match[str]) -> str:
    return f"```\n{dedent(found[0]).strip()}\n```\n"


def _fields(kind: type) -> Iterator[str]:
    """Yield a line for each field, and each property, with what is said below it in the source."""
    for base in reversed([one for one in kind.__mro__ if issubclass(one, Struct) and one.__module__ != "msgspec"]):
        source = ast.parse(inspect.getsource(base))
        assert isinstance(source.body[0], ast.ClassDef)
        body = source.body[0].body
        for one, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(one, ast.AnnAssign):
                said = ""
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    said = f": {' '.join(str(after.value.value).split())}"
                shown = f"{ast.unparse(one.target)}: {ast.unparse(one.annotation)}".replace("'", '"')
                yield f"- `{shown}`{said}"
            elif isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
                said = f": {' '.join(doc.split())}" if (doc := ast.get_docstring(one)) else ""
                yield f"- `{one.name}: {ast.unparse(one.returns) if one.returns else ''}`{said}"


def _aliases() -> Iterator[str]:
    aliases = {"Content": Content, "Role": Role, "Strategy": Strategy, "WaitType": WaitType}
    for name, alias in aliases.items():
        yield f"- `{name}`: `{re.sub(r'(typing|collections[.]abc)[.]', '', str(alias))}`".replace("'", '"')


def _errors(kind: type[SessiondError], depth: int = 0) -> Iterator[str]:
    yield f"{'  ' * depth}- `{kind.__name__}`: {' '.join(inspect.cleandoc(kind.__doc__ or '').split())}"
    for below in kind.__subclasses__():
        yield from _errors(below, depth + 1)


if __name__ == "__main__":
    write()
    print(f"wrote {Path(PAGE).relative_to(ROOT)}")  # noqa: T201  # said by hand only
