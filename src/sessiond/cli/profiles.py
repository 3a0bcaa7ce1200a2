"""The logins of whoever works here: which servers, and with which keys. A file that only its owner can read."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from sessiond.core.errors import InvalidInput

FIRST: Final = "default"
"""What the first login is called, unless it is said."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and a key for it."""

    url: str
    key: str

    @property
    def shown(self) -> str:
        """The key, as it may be shown."""
        return f"sd_…{self.key[-4:]}" if len(self.key) > 12 else "…"


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """All logins, by name."""

    current: str | None = None
    profiles: dict[str, Profile] = {}

    def get(self, name: str) -> Profile:
        """Return one.

        Raises:
            InvalidInput: there is none of that name; the message says which there are.
        """
        if name not in self.profiles:
            others = f"there is {', '.join(sorted(self.profiles))}" if self.profiles else "there is none yet"
            raise InvalidInput(f"there is no profile {name!r}: {others}; sessiond login --profile {name} makes it")
        return self.profiles[name]

    def find_current(self) -> Profile | None:
        return self.profiles.get(self.current) if self.current is not None else None

    def find_by_url(self, url: str) -> Profile | None:
        """Return the current one if it is of that server, else the first that is."""
        current = self.find_current()
        candidates = [*([current] if current is not None else []), *self.profiles.values()]
        return next((each for each in candidates if each.url == url), None)

    def with_profile(self, name: str, profile: Profile) -> Profiles:
        """Return these with one more, or another of that name; it is the current one."""
        return replace(self, current=name, profiles=self.profiles | {name: profile})

    def without(self, name: str) -> Profiles:
        """Return these without one; where it was the current one, there is none."""
        kept = {each: profile for each, profile in self.profiles.items() if each != name}
        return replace(self, current=self.current if self.current in kept else None, profiles=kept)


def find_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where they are kept, by the rules of XDG."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(configured) if Path(configured).is_absolute() else Path.home() / ".config"
    return folder / "sessiond" / "profiles.toml"


def read(file: Path) -> Profiles:
    """Return what is kept there; nothing where there is no file.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), Profiles)
    except FileNotFoundError:
        return Profiles()
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise InvalidInput(f"the profiles in {file} cannot be read: {error}") from error


def readable_by_others(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & 0o077)
    except OSError:
        return False


def write(file: Path, profiles: Profiles) -> None:
    """Keep them there, whole or not at all, for nobody else to read.

    Raises:
        InvalidInput: they cannot be written.
    """
    file = file.resolve()  # a link stays one
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as written:
            written.write(_toml(profiles))
        partial.replace(file)
    except OSError as error:
        raise InvalidInput(f"the profiles cannot be kept in {file}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _toml(profiles: Profiles) -> str:
    # A text of JSON is one of TOML too.
    lines = [f"current = {json.dumps(profiles.current)}"] if profiles.current is not None else []
    for name, profile in sorted(profiles.profiles.items()):
        lines += ["", f"[profiles.{json.dumps(name)}]"]
        lines += [f"url = {json.dumps(profile.url)}", f"key = {json.dumps(profile.key)}"]
    return "\n".join([*lines, ""])
