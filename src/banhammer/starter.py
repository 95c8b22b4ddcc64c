"""The starter rules: what `banhammer init` writes and `banhammer replay` uses without a file of its own."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from banhammer.errors import ConfigError


def starter_text() -> str:
    """Return the starter rules as TOML."""
    return files("banhammer").joinpath("starter.toml").read_text("utf-8")


def write_starter(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the starter rules; raise `ConfigError` where they cannot be, or where a file stands already."""
    name = os.fspath(path)
    try:
        with Path(name).open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(starter_text())
    except FileExistsError as error:
        raise ConfigError(f"{name}: stands already; name another, or replace it with --force") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a directory; name the file in it") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be written ({error.strerror}); name another") from error
