from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.settings import Settings, SettingsError, load_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file that sets the port to 1."""
    path = tmp_path / "sessiond.toml"
    path.write_text("port = 1\n")
    return path


def test_without_any_source_the_defaults_hold() -> None:
    assert load_settings({}, environment={}) == Settings()


def test_a_file_wins_over_the_default(file: Path) -> None:
    assert load_settings({}, environment={}, file=file).port == 1


def test_the_environment_wins_over_the_file(file: Path) -> None:
    assert load_settings({}, environment={"SESSIOND_PORT": "2"}, file=file).port == 2


def test_a_flag_wins_over_the_environment(file: Path) -> None:
    assert load_settings({"port": 3}, environment={"SESSIOND_PORT": "2"}, file=file).port == 3


def test_a_flag_or_variable_that_was_not_given_hides_nothing(file: Path) -> None:
    assert load_settings({"port": None}, environment={"SESSIOND_PORT": ""}, file=file).port == 1


def test_the_environment_names_the_file_unless_a_flag_does(file: Path, tmp_path: Path) -> None:
    environment = {"SESSIOND_CONFIG": str(file)}
    other = tmp_path / "other.toml"
    other.write_text("port = 4\n")

    assert load_settings({}, environment=environment).port == 1
    assert load_settings({}, environment=environment, file=other).port == 4


def test_an_unknown_name_in_the_file_is_refused(file: Path) -> None:
    file.write_text("prot = 1\n")

    with pytest.raises(SettingsError, match=r"prot in .*sessiond\.toml is not a setting"):
        load_settings({}, environment={}, file=file)


@pytest.mark.parametrize("text", ["port = \n", "\x00"])
def test_a_file_that_cannot_be_read_is_refused(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(SettingsError, match=r"sessiond\.toml cannot be read"):
        load_settings({}, environment={}, file=file)


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nope\.toml cannot be read"):
        load_settings({}, environment={}, file=tmp_path / "nope.toml")


def test_a_bad_value_is_named_with_its_source(file: Path) -> None:
    file.write_text("workers = 0\n")

    with pytest.raises(SettingsError, match=r"^workers in .*sessiond\.toml cannot be 0: expected `int` >= 1"):
        load_settings({}, environment={}, file=file)
    with pytest.raises(SettingsError, match=r"^SESSIOND_LOG_LEVEL cannot be 'loud'"):
        load_settings({}, environment={"SESSIOND_LOG_LEVEL": "loud"})
    with pytest.raises(SettingsError, match=r"^--body-max-bytes cannot be 1"):
        load_settings({"body_max_bytes": 1}, environment={})


def test_a_bad_value_is_refused_also_where_a_better_one_wins(file: Path) -> None:
    file.write_text("port = -1\n")

    with pytest.raises(SettingsError, match="port in"):
        load_settings({"port": 3}, environment={}, file=file)
