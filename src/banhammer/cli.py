"""The command line: names and options only; what a command does lives with its subject."""

# Without "from __future__ import annotations": typer reads the options' annotations, which name what only
# `build_app` imports.

import errno
import importlib.metadata
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, TextIO

from banhammer.errors import BanhammerError

if TYPE_CHECKING:
    import typer

_MISSING = 'banhammer: the command line needs more packages: pip install "banhammer-limiter[cli]"'
_NEEDED = frozenset({"typer", "rich", "pydantic", "pydantic_core", "click", "shellingham"})
_OPERATORS = frozenset({"ban", "unban", "bans", "status", "reset", "explain", "worker", "dead-letters"})
"""Commands whose 1 says that there was nothing to do, so that their mistakes are a 2."""


def main() -> None:
    """Run `banhammer` with the arguments of the process, and exit: 0, 1 after a mistake, 2 after a misuse.

    The operators' commands exit 1 when there was nothing to do, and 2 after any mistake.
    """
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # A file's name may be no text.
    sys.exit(_run())


def _nowhere() -> TextIO:
    """Return a stream for what was closed before the start."""
    return open(os.devnull, "w", encoding="utf-8")  # It lasts as long as the process.


def _run() -> int:
    mistake = 2 if _OPERATORS.intersection(sys.argv[1:2]) else 1
    try:
        app = build_app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        print(_MISSING, file=sys.stderr)
        return mistake
    try:
        return _finished(app)
    except BanhammerError as error:
        print(error, file=sys.stderr)
        return mistake
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"banhammer: {_explain(error)}", file=sys.stderr)
        # Output that cannot be written would be tried, and complained of, once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return mistake
    except KeyboardInterrupt:
        return 130


def _explain(error: OSError) -> str:
    """Return what to do; an error without a file's name is one of the output, as commands name all else."""
    what = error.strerror or str(error)
    remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "send it elsewhere"
    return f"{error.filename or 'standard output'}: {what[:1].lower()}{what[1:]}; {remedy}"


def _finished(app: "typer.Typer") -> int:
    try:
        app(prog_name="banhammer")
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else 0
    return 0


def build_app() -> "typer.Typer":
    """Return the application with every command; raises `ModuleNotFoundError` without the extra `cli`."""
    import typer

    from banhammer.check import check as check_file
    from banhammer.inventory import show_plugins
    from banhammer.operators import register as register_operators
    from banhammer.post import register as register_post
    from banhammer.replay.command import register as register_replay
    from banhammer.schema import json_schema
    from banhammer.starter import write_starter

    app = typer.Typer(
        name="banhammer",
        help="Rate limits and bans that climb a ladder; try them on yesterday's log.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # They would show local values, and so secrets.
    )
    as_json = typer.Option("--json", help="Print one JSON object.")

    def show_version(wanted: bool) -> None:
        if wanted:
            print(importlib.metadata.version("banhammer-limiter"))
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
        ] = False,
    ) -> None:
        pass

    @app.command()
    def check(
        file: Annotated[str | None, typer.Argument(help="Default: BANHAMMER_CONFIG, or banhammer.toml.")] = None,
        json_: Annotated[bool, as_json] = False,
    ) -> None:
        """Say in words what a configuration does, and what in it is a mistake or cannot be meant."""
        raise typer.Exit(check_file(file, as_json=json_))

    @app.command()
    def schema() -> None:
        """Print the JSON Schema of the configuration, for editors."""
        print(json.dumps(json_schema(), indent=2))

    @app.command()
    def init(
        path: Annotated[str, typer.Argument(help="The file to write.")] = "banhammer.toml",
        force: Annotated[bool, typer.Option("--force", help="Replace a file that stands already.")] = False,
        json_: Annotated[bool, as_json] = False,
    ) -> None:
        """Write the starter rules."""
        write_starter(path, force=force)
        print(json.dumps({"wrote": path}) if json_ else f"wrote {path}; next: banhammer check {path}")

    @app.command()
    def plugins(json_: Annotated[bool, as_json] = False) -> None:
        """List the plugins, with their versions and hooks, and what was left out."""
        show_plugins(as_json=json_)

    register_replay(app)
    register_operators(app)
    register_post(app)
    return app
