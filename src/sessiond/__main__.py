"""The command `sessiond`, also as `python -m sessiond`."""

import sys
from typing import Final

COMMAND: Final = ("rich", "typer")
SERVER: Final = ("aiosmtpd", "httptools", "uvicorn", "uvloop")


def main() -> None:
    """Run the command line, as far as what it needs is installed: who only imports the client does without."""
    try:
        from sessiond.cli import main as run

        run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in COMMAND:
            sys.exit(
                "sessiond: the command is not installed: pip install 'sessiond[cli]', or sessiond[server] to serve"
            )
        if missing in SERVER:
            sys.exit("sessiond: serving is not installed: pip install 'sessiond[server]'")
        raise


if __name__ == "__main__":
    main()
