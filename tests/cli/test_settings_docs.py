"""The page about settings, the settings, and the flags of `serve` say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import typer.main

from sessiond.cli import app
from sessiond.settings import Settings, load_settings, read_descriptions

PAGE: Final = (Path(__file__).parents[2] / "docs" / "operate" / "settings.md").read_text()
ROWS: Final = {
    cells[0]: cells
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines())
    if cells[0].startswith("`") and len(cells) == 5
}
SETTINGS: Final = [f"`{name}`" for name in Settings.__struct_fields__]


def serve_flags() -> set[str]:
    group = typer.main.get_command(app)
    command = group.commands["serve"]  # type: ignore[attr-defined]  # a group, which typer's own types do not say
    return {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}


def test_the_page_lists_every_setting_in_its_order_and_no_other() -> None:
    assert list(ROWS) == SETTINGS


def test_the_page_gives_each_default() -> None:
    defaults = msgspec.to_builtins(Settings())

    for name, default in defaults.items():
        assert ROWS[f"`{name}`"][3] == ("none" if default is None else f"`{default}`")


def test_the_page_gives_each_description() -> None:
    for name, description in read_descriptions().items():
        assert ROWS[f"`{name}`"][4] == description


def test_each_variable_of_the_page_makes_its_setting() -> None:
    changed = {"default_dialect": "viben", "log_level": "debug", "database": "sqlite:///other.db", "host": "::1"}
    changed |= {
        "agents_file": "agents.toml",
        "smtp_host": "::1",
        "mail_domain": "mail.example.com",
        "mail_max_bytes": "2000",
    }
    changed |= {"smtp_certificate": "mail.pem", "smtp_certificate_key": "key.pem", "master_key_file": "master.key"}
    changed |= {"tls_certificate": "web.pem", "tls_certificate_key": "web-key.pem", "trusted_proxies": "10.0.0.0/8"}

    for name in Settings.__struct_fields__:
        variable = ROWS[f"`{name}`"][1].strip("`")
        value = changed.get(name, "2000" if name == "body_max_bytes" else "7")
        loaded = load_settings({}, environment={variable: value})
        assert str(getattr(loaded, name)).removesuffix(".0") == value


def test_every_flag_of_serve_is_documented() -> None:
    flags = serve_flags()

    assert {ROWS[setting][2].strip("`") for setting in SETTINGS} == flags - {"--config", "--help"}
    assert re.search("named by `--config` or by `SESSIOND_CONFIG`", PAGE)
