"""The real program, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import httpx

from tests.cli.forking import run_forked

PROGRAM: Final = (sys.executable, "-m", "sessiond")
SECRET: Final = re.compile(r"sd_[\w-]{43}")
SECONDS: Final = 30


def make_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which no setting is made but those given."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
    return ours | dict(more or {})


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def run(
    *arguments: str,
    status: int = 0,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    said: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must have this status; `said` comes to its standard input."""
    done = run_forked(*arguments, environment=make_environment(environment), folder=folder, said=said, seconds=SECONDS)
    assert done.returncode == status, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def run_afresh(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command whose start is what is looked at; it must succeed."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=make_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )


def run_json(*arguments: str, status: int = 0, environment: Mapping[str, str] | None = None) -> Any:
    """Run a command that prints JSON."""
    return json.loads(run(*arguments, "--json", status=status, environment=environment).stdout)


def refusal(*arguments: str, status: int = 1, environment: Mapping[str, str] | None = None) -> str:
    """Run a command that is refused, and return the one line that says so."""
    done = run(*arguments, status=status, environment=environment)
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sessiond: ")
    return lines[0]


class Started:
    """`sessiond serve`, listening."""

    def __init__(self, process: subprocess.Popen[str], greeting: str) -> None:
        self.process: Final = process
        self.greeting: Final = greeting
        """What it said until then, on standard output."""

    @property
    def url(self) -> str:
        found = re.search(r"^listening on (https?://\S+)$", self.greeting, re.MULTILINE)
        assert found is not None, self.greeting
        return found[1]

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    @property
    def smtp_port(self) -> str:
        """Where it takes mail, if it was started so."""
        found = re.search(r"^taking mail on \S+:([0-9]+) ", self.greeting, re.MULTILINE)
        assert found is not None, self.greeting
        return found[1]

    @property
    def curls(self) -> tuple[str, str]:
        """The lines that the first start offers to those who want to try: one says something, one reads the answer."""
        say, read = (line for line in self.greeting.splitlines() if line.lstrip().startswith("curl "))
        return say, read

    @property
    def secret(self) -> str:
        """The first key."""
        secrets: set[str] = set(SECRET.findall(self.greeting))
        assert len(secrets) == 1, self.greeting
        return secrets.pop()

    def ask(self, path: str, secret: str | None = None) -> httpx.Response:
        key = secret if secret is not None else self.secret
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS)

    def post(self, path: str, body: object) -> Any:
        """Send JSON with the first key, which must be taken, and return the answer."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        answer = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=SECONDS)
        assert answer.is_success, answer.text
        return answer.json()

    def wait_for_answer(self, session_id: str, content: str) -> None:
        """Wait until the session's last message is the agent's; it must say this."""

        def last() -> Any:
            return self.ask(f"/v1/sessions/{session_id}/messages").json()["data"][-1]

        wait_until(lambda: bool(last()["role"] == "assistant"), 15)
        assert last()["content"] == content

    def stop(self) -> int:
        """Tell it to stop, and return how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@contextmanager
def start(database: str, *arguments: str) -> Iterator[Started]:
    """Serve on a free port; stop at the end of the block, if it was not stopped in it."""
    command = [*PROGRAM, "serve", "--database", database, "--port", "0", *arguments]
    with (
        TemporaryFile("w+") as log,
        subprocess.Popen(
            command,
            env=make_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            yield Started(process, _read_greeting(process))
        except BaseException:
            process.kill()
            process.wait(SECONDS)
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            process.terminate()
            process.wait(SECONDS)


def _read_greeting(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    greeting = ""
    for line in process.stdout:
        greeting += line
        if "/messages" in line or "make a key" in line:
            break
    return greeting


class Worker:
    """`sessiond worker`, looking for runs."""

    def __init__(self, process: subprocess.Popen[str], name: str, log: IO[str]) -> None:
        self.process: Final = process
        self.name: Final = name
        self._log = log

    def stop(self) -> int:
        """Tell it to stop, and return how it ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def read_log(self) -> str:
        self._log.seek(0)
        return self._log.read()


@contextmanager
def start_worker(database: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """Work on runs; stop at the end of the block, if it was not stopped in it."""
    with (
        TemporaryFile("a+") as log,
        subprocess.Popen(
            [*PROGRAM, "worker", "--database", database, *arguments],
            env=make_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            ready = re.fullmatch(r"working as (\S+), up to \d+ runs at once\n", said)
            assert ready is not None, said
            yield Worker(process, ready[1], log)
        except BaseException:
            process.kill()
            process.wait(SECONDS)
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            process.terminate()
            process.wait(SECONDS)
