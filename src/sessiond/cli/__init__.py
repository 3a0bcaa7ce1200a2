"""The operator's commands."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    import asyncio
    import sys

    from sessiond.actions import workspaces
    from sessiond.server import prepare, serve
    from sessiond.settings import load_settings
    from sessiond.storage.open import migrate, open_engine

    settings = load_settings(
        {"database": sys.argv[1], "port": int(sys.argv[2]), "log_level": sys.argv[3] if len(sys.argv) > 3 else None}
    )
    prepare(settings)

    async def begin():
        print(await migrate(settings.database))
        engine = await open_engine(settings.database, queue_max=10, pool_max=2, command_timeout_seconds=30)
        made = await workspaces.begin(engine)
        await engine.close()
        return made

    made = asyncio.run(begin())
    if made:
        print("key", made.secret)
    serve(settings, lambda url: print("listening", url, flush=True))
