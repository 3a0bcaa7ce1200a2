"""Logins: how they are kept, and which server and key a command means."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from sessiond.cli import profiles
from sessiond.cli.connecting import HERE, Where, check_key, check_url, choose
from sessiond.cli.profiles import Profile, Profiles
from sessiond.core.errors import InvalidInput

WORK = Profile(url="https://work.example", key="sd_work-key-of-ours")
HOME = Profile(url="http://127.0.0.1:9", key="sd_home-key-of-ours")
KNOWN = Profiles().with_profile("home", HOME).with_profile("work", WORK)


def test_what_is_kept_is_read_again_and_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "config" / "sessiond" / "profiles.toml"
    odd = KNOWN.with_profile('a "b" \\ ü', WORK)

    profiles.write(file, KNOWN)
    file.chmod(0o644)
    assert profiles.readable_by_others(file)
    profiles.write(file, odd)

    assert profiles.read(file) == odd
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["profiles.toml"]
    assert profiles.read(tmp_path / "none.toml") == Profiles()


def test_profiles_that_cannot_be_read_are_refused_without_showing_keys(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text('[profiles.x]\nkey = "sd_secret"\n')

    with pytest.raises(InvalidInput, match="cannot be read") as refused:
        profiles.read(file)
    assert "sd_secret" not in str(refused.value)


def test_they_are_where_xdg_has_them(tmp_path: Path) -> None:
    assert profiles.find_file({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "sessiond" / "profiles.toml"
    assert profiles.find_file({"XDG_CONFIG_HOME": "relative"}) == Path.home() / ".config/sessiond/profiles.toml"


@pytest.mark.parametrize(
    ("where", "environment", "chosen"),
    [
        (Where(), {}, WORK),
        (Where(profile="home"), {"SESSIOND_URL": "http://other", "SESSIOND_API_KEY": "other"}, HOME),
        (
            Where(),
            {"SESSIOND_URL": "http://env", "SESSIOND_API_KEY": "sd_env"},
            Profile(url="http://env", key="sd_env"),
        ),
        (Where(url="http://a/v1/", key="sd_a"), {"SESSIOND_API_KEY": "sd_env"}, Profile(url="http://a", key="sd_a")),
        (Where(url="http://a"), {"SESSIOND_API_KEY": "sd_env"}, Profile(url="http://a", key="sd_env")),
        (Where(key="sd_a"), {}, Profile(url=WORK.url, key="sd_a")),
        (Where(url=HOME.url), {}, HOME),
    ],
)
def test_options_win_over_the_environment_and_that_over_the_current_profile(
    where: Where, environment: dict[str, str], chosen: Profile
) -> None:
    assert choose(where, environment, KNOWN) == chosen


def test_a_key_alone_is_for_the_server_of_this_machine_where_there_is_no_profile() -> None:
    assert choose(Where(key="sd_a"), {}, Profiles()) == Profile(url=HERE, key="sd_a")


def test_a_profiles_key_is_sent_to_no_other_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        choose(Where(url="https://elsewhere.example"), {}, KNOWN)

    said = capsys.readouterr().err
    assert "there is no key for https://elsewhere.example" in said
    assert "sessiond login" in said


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(typer.BadParameter):
        choose(Where(profile="home", url="http://a"), {}, KNOWN)
    with pytest.raises(InvalidInput, match="there is home, work"):
        choose(Where(profile="nope"), {}, KNOWN)


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://a", "http://", "http://a b", "http://a:99999", "http://[::1"]
)
def test_what_is_no_servers_url_is_refused(url: str) -> None:
    with pytest.raises(typer.BadParameter):
        check_url(url)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ünïcode", "\x1b[31m"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        check_key(key)
    assert not key or key not in str(refused.value)


def test_of_a_key_only_the_end_is_shown() -> None:
    assert WORK.shown == "sd_…ours"
    assert Profile(url="x", key="short").shown == "…"


def test_forgetting_the_current_one_leaves_none_current() -> None:
    assert KNOWN.without("work").current is None
    assert KNOWN.without("home").current == "work"
    assert KNOWN.without("work").profiles == {"home": HOME}
