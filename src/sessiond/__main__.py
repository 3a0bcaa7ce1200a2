"""The command `sessiond`, also as `python -m sessiond`."""

import sys


def main() -> None:
    """Run the command line, if what it needs is installed: who only imports the client does without."""
    try:
        from sessiond.cli import main as run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("sessiond: the command is not installed: pip install 'sessiond[cli]', or sessiond[server] to serve")
    run()


if __name__ == "__main__":
    main()
