"""The options of agents, as they are typed: what `--option KEY=VALUE` means, and what `--help` says of each runner."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import typer

from sessiond.core.agent import RUNNERS

FLAG: Final = "--option"
HELP_WIDTH: Final = 78  # what a terminal of 80 columns leaves beside the indent
NAME_WIDTH: Final = 14


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Return options as a runner takes them; whether it takes them, it says itself.

    `env.NAME=value` adds to a map. A value that is a JSON list or object is that; any other, and every one in a map,
    is text.
    """
    options = dict[str, Any]()
    for each in given:
        key, equals, value = each.partition("=")
        name, dot, below = key.partition(".")
        if not (equals and name) or (dot and not below):
            raise typer.BadParameter(
                f"{key!r} must be KEY=VALUE, such as delay_ms=50 or env.NAME=value", param_hint=FLAG
            )
        if dot:
            into = options.setdefault(name, {})
            if not isinstance(into, dict) or below in into:
                raise typer.BadParameter(f"{key} is given twice", param_hint=FLAG)
            into[below] = value
        elif name in options:
            raise typer.BadParameter(f"{key} is given twice", param_hint=FLAG)
        else:
            options[name] = _read(value)
    return options


def show_options(options: Mapping[str, Any]) -> str:
    """Return options as they could be typed behind `--option`, one behind the other."""
    return " ".join(shlex.quote(f"{name}={value}") for name, value in _flat(options))


def describe_runners() -> str:
    """Return a paragraph for each runner, its options in it, that typer leaves as it is."""
    return "\n\n".join("\b\n" + "\n".join(_describe(name)) for name in RUNNERS)


def _read(value: str) -> Any:
    if value.startswith(("[", "{")):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value  # a shell's own brackets, or a system prompt's
    return value


def _flat(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", str(each)) for key, each in value.items())
        elif isinstance(value, str):
            yield name, value
        else:
            yield name, msgspec.json.encode(value).decode()


def _describe(runner: str) -> Iterator[str]:
    kind = RUNNERS[runner]
    definitions = msgspec.json.schema(kind)["$defs"]
    told = definitions[kind.__name__]
    yield f"{runner}: {told['description']}"
    for name, field in told["properties"].items():
        choices = definitions.get(field.get("$ref", "").rpartition("/")[2], {}).get("enum", ())
        typed = f"{name}.NAME" if field.get("type") == "object" else name
        yield from textwrap.wrap(
            f"{typed:<{NAME_WIDTH}}{_sentence(field, choices, required=name in told['required'])}",
            HELP_WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (NAME_WIDTH + 2),
        )


def _sentence(field: Mapping[str, Any], choices: Sequence[str], *, required: bool) -> str:
    said = [field["description"].replace("`", "")]
    if choices:
        said.append(f"One of {', '.join(choices)}; {field['default']} unless given.")
    elif required:
        said.append("Needed.")
    return " ".join(said)
