"""`sessiond encryption`: how a workspace's content is sealed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sessiond.cli import show
from sessiond.cli.options import Config, Database, Json
from sessiond.core.errors import Forbidden, InvalidInput
from sessiond.crypto import STORAGE_KEY_VARIABLE, make_master_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessiond.actions.encryption import Mode, Progress, Status
    from sessiond.storage.engine import Engine
    from sessiond.storage.resealing import Held

app: Final = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Seal workspaces, replace their keys, and see what is sealed."
)

NEW_STORAGE_KEY_VARIABLE: Final = "SESSIOND_NEW_STORAGE_KEY"

InWorkspace = Annotated[str, typer.Option(metavar="ID", help="The workspace.")]
StorageKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=f"A file with the storage key that the workspace is sealed with. [env {STORAGE_KEY_VARIABLE}]",
    ),
]
NewStorageKeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help=f"A file with the storage key to come. [env {NEW_STORAGE_KEY_VARIABLE}]"),
]


@app.command("new-key")
def new_key() -> None:
    """Print a new master key: 32 random bytes in base64. Keep it apart from the database and its backups.

    \b
    sessiond encryption new-key > /etc/sessiond/master.key && chmod 600 /etc/sessiond/master.key
    SESSIOND_MASTER_KEY_FILE=/etc/sessiond/master.key sessiond serve
    """
    print(make_master_key())


@app.command()
def enable(
    workspace: InWorkspace = "default",
    client: Annotated[
        bool, typer.Option("--client", help="Seal with a storage key, which clients send along; ask for it here.")
    ] = False,
    storage_key_file: StorageKeyFile = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Seal a workspace: what is in it, and all that comes.

    With the server's master key (SESSIOND_MASTER_KEY or SESSIOND_MASTER_KEY_FILE, for the server too), or, with a
    storage key, so that nobody reads anything without the header storage-key. Servers go on meanwhile. When this is
    stopped, run it again: it goes on where it was.

    \b
    sessiond encryption enable --workspace acme
    sessiond encryption enable --workspace acme --storage-key-file acme.key
    """
    from sessiond.actions.encryption import Mode

    wanted = Mode.CLIENT if client or storage_key_file is not None else Mode.SERVER
    storage_key = _read_key(storage_key_file, STORAGE_KEY_VARIABLE, "Storage key") if wanted is Mode.CLIENT else None
    _change(workspace, wanted, keys=[storage_key], anew=False, database=database, config=config, json=json)


@app.command()
def disable(
    workspace: InWorkspace = "default",
    storage_key_file: StorageKeyFile = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Keep a workspace in plain text: what is in it, and all that comes.

    \b
    sessiond encryption disable --workspace acme
    """
    from sessiond.actions.encryption import Mode

    key = _find_key(storage_key_file, STORAGE_KEY_VARIABLE)
    _change(workspace, Mode.OFF, keys=[key], anew=False, database=database, config=config, json=json)


@app.command()
def rotate(
    workspace: InWorkspace = "default",
    storage_key_file: StorageKeyFile = None,
    new_storage_key_file: NewStorageKeyFile = None,
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Seal a workspace with a new key, and destroy the old one.

    Where clients hold the key, both storage keys are needed; from the first moment on only the new one is taken. The
    end counts what is sealed with which key. When this is stopped, run it again: it goes on where it was.

    \b
    sessiond encryption rotate --workspace acme
    sessiond encryption rotate --workspace acme --storage-key-file old.key --new-storage-key-file new.key
    """
    old = _find_key(storage_key_file, STORAGE_KEY_VARIABLE)
    new = _find_key(new_storage_key_file, NEW_STORAGE_KEY_VARIABLE)
    _change(workspace, None, keys=[new, old], anew=True, database=database, config=config, json=json)


@app.command("save-keys")
def save_keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to. What is there is replaced.")],
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write the keys of all that is sealed to a file of their own, wrapped as they are.

    For backups that leave them out: what is erased can be read from none of these once this file was made anew.

    \b
    sessiond backup --without-keys /backups/sessiond-$(date +%F).db
    sessiond encryption save-keys /keys/sessiond.keys
    """
    from sessiond.actions import key_files
    from sessiond.cli.database import run

    n = run(lambda engine: key_files.save(engine, file), database=database, config=config)
    if json:
        show.print_json({"file": str(file), "keys": n})
    else:
        print(f"saved {n} keys to {file}")


@app.command("restore-keys")
def restore_keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What save-keys has written.")],
    database: Database = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Put keys back into a database that was restored from a backup without them.

    \b
    sessiond encryption restore-keys /keys/sessiond.keys
    """
    from sessiond.actions import key_files
    from sessiond.cli.database import run

    n = run(lambda engine: key_files.restore(engine, file), database=database, config=config)
    if json:
        show.print_json({"restored": n})
    else:
        print(f"restored {n} keys that were missing")


@app.command()
def status(
    workspace: InWorkspace = "default", database: Database = None, config: Config = None, json: Json = False
) -> None:
    """Show how a workspace is sealed, and how much is kept under which key: counted, from what each text says.

    \b
    sessiond encryption status --workspace acme
    """
    from sessiond.actions import encryption
    from sessiond.cli.database import get_workspace, run

    async def work(engine: Engine) -> Status:
        return await encryption.read_status(engine, (await get_workspace(engine, workspace, opens=False)).id)

    found = run(work, database=database, config=config)
    if json:
        show.print_json(status_out(found))
        return
    show.print_record(
        {
            "workspace": found.workspace_id,
            "encryption": found.mode,
            "key": str(found.key_id or show.NOTHING),
            "sessions": str(found.sessions),
            "not indexed": f"{found.unindexed} events",
            "change": "not finished: run the command again" if found.changing else "none",
        }
    )
    print()
    _print_held(found.held, found.key_id)


def status_out(found: Status) -> dict[str, Any]:
    """Return a status as JSON shows it. Key ids are text: JSON's numbers do not hold them."""
    return {
        "workspace": found.workspace_id,
        "mode": found.mode,
        "key_id": _id_text(found.key_id),
        "changing": found.changing,
        "sessions": found.sessions,
        "unindexed": found.unindexed,
        "keys": [{"id": str(root.id), "kind": root.kind, "created_at_us": root.created_at_us} for root in found.roots],
        "held": held_out(found.held),
    }


def held_out(held: Sequence[Held]) -> list[dict[str, Any]]:
    return [{"kind": each.kind, "key_id": _key_text(each.key_id), "n": each.n} for each in held]


def _change(
    workspace_id: str,
    wanted: Mode | None,
    *,
    keys: list[str | None],
    anew: bool,
    database: str | None,
    config: Path | None,
    json: bool,
) -> None:
    """Change how a workspace is sealed; `keys` are storage keys, the one to come first, None where it is not given."""
    from sessiond.actions import encryption
    from sessiond.actions.encryption import Mode
    from sessiond.cli.database import get_workspace, run
    from sessiond.cli.progress import bar

    async def work(engine: Engine) -> tuple[bool, list[Held], Status]:
        workspace = await get_workspace(engine, workspace_id, opens=False)
        before = await encryption.read_status(engine, workspace.id)
        mode = wanted or before.mode
        if wanted is None and mode is Mode.OFF and not before.changing:
            raise InvalidInput("this workspace is not sealed: use sessiond encryption enable")
        await _unlock(engine, before, keys)
        if wanted is None and mode is Mode.CLIENT and not before.changing and keys[0] is None:
            raise InvalidInput(f"a new storage key is needed: --new-storage-key-file, or {NEW_STORAGE_KEY_VARIABLE}")
        begun = await encryption.begin(engine, workspace.id, mode, storage_key=keys[0], anew=anew)
        with bar("sealing", shown=not json) as shown:

            def tell(progress: Progress) -> None:
                shown.update(progress.done, progress.total)

            held = await encryption.move(engine, workspace.id, told=tell)
        return begun or before.changing, held, await encryption.read_status(engine, workspace.id)

    changed, held, after = run(work, database=database, config=config)
    if json:
        show.print_json(status_out(after) | {"changed": changed})
        return
    if not changed:
        print(f"the workspace {workspace_id} is kept so already: {after.mode}")
    else:
        print(f"the workspace {workspace_id} is now: {after.mode}; the keys it had before are destroyed")
    _print_held(held, after.key_id)


async def _unlock(engine: Engine, before: Status, keys: Sequence[str | None]) -> None:
    """Open a workspace that clients hold the key of, with whichever of the given keys it is."""
    from sessiond.actions import encryption
    from sessiond.storage.seals import CLIENT

    if not any(root.kind == CLIENT for root in before.roots):
        return
    given = [key for key in keys if key is not None]
    if not given:
        given = [_read_key(None, STORAGE_KEY_VARIABLE, "Storage key")]
    for number, key in enumerate(given, start=1):
        try:
            await encryption.unlock(engine, before.workspace_id, key)
            return
        except Forbidden:
            if number == len(given):
                raise


def _find_key(file: Path | None, variable: str) -> str | None:
    """Return the storage key that a file or the environment holds."""
    if file is None:
        return os.environ.get(variable) or None
    try:
        key = file.read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the storage key file {file} cannot be read: {type(error).__name__}") from error
    if not key:
        raise InvalidInput(f"the storage key file {file} is empty")
    return key


def _read_key(file: Path | None, variable: str, prompt: str) -> str:
    key = _find_key(file, variable)
    if key is not None:
        return key
    if not sys.stdin.isatty():
        raise InvalidInput(f"a storage key is needed: --storage-key-file, or {variable}")
    asked: str = typer.prompt(prompt, hide_input=True)
    return asked


def _print_held(held: Sequence[Held], key_id: int | None) -> None:
    if not held:
        print("nothing is kept yet")
        return
    rows = []
    for each in held:
        current = "current" if (each.key_id or None) == key_id else "old"
        rows.append((each.kind, _key_text(each.key_id), current, str(each.n)))
    show.print_table(("WHAT", "KEY", "STATE", "COUNT"), rows)


def _key_text(key_id: int | None) -> str:
    if key_id is None:
        return "destroyed"
    return str(key_id) if key_id else "plain text"


def _id_text(key_id: int | None) -> str | None:
    return str(key_id) if key_id is not None else None
