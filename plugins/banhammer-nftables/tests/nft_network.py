"""Two network namespaces with a wire between them: a machine to protect, and clients that connect to it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from banhammer import Escalation

V4: Final = "203.0.113.9"
V4_NEAR: Final = "203.0.113.77"
V4_FAR: Final = "198.51.100.5"
V6: Final = "2001:db8:1:2::9"
V6_NEAR: Final = "2001:db8:1:2::77"
V6_FAR: Final = "2001:db8:9::5"
CLIENTS: Final = (V4, V4_NEAR, V4_FAR, V6, V6_NEAR, V6_FAR)
HOST4: Final = "198.18.77.1"
HOST6: Final = "2001:db8:ffff::1"
PORT: Final = 8080

_LISTEN: Final = f"""
import socket
with socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("listening", flush=True)
    while True:
        server.accept()[0].close()
"""
_CONNECT: Final = f"""
import socket, sys
host, source = sys.argv[1:]
try:
    socket.create_connection((host, {PORT}), timeout=0.4, source_address=(source, 0)).close()
except TimeoutError:
    print("timeout")
else:
    print("connected")
"""
_COUNT: Final = itertools.count()


def tool(name: str, package: str) -> str:
    """Return the path of a program that the tests cannot do without."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if not path:
        raise RuntimeError(f"the program {name!r} is missing: apt-get install {package}")
    return path


def command(*arguments: str) -> str:
    """Run a command that must succeed and return what it prints."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Network:
    """The namespaces `host` and `clients`, and programs that run `nft` in the first."""

    host: str
    clients: str
    folder: Path

    @property
    def nft(self) -> str:
        """A program that is `nft` of the protected machine."""
        return self.program("nft-inside", f'exec ip netns exec {self.host} nft "$@"')

    def program(self, name: str, body: str) -> str:
        """Write a shell script and return its path."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def inside(self, *arguments: str) -> str:
        """Run a command on the protected machine."""
        return command(tool("ip", "iproute2"), "netns", "exec", self.host, *arguments)

    def connects(self, source: str) -> bool:
        """Return whether the client with this address gets a connection; if not, it timed out."""
        said = command(
            *(tool("ip", "iproute2"), "netns", "exec", self.clients, sys.executable, "-c", _CONNECT),
            *(HOST6 if ":" in source else HOST4, source),
        ).strip()
        assert said in ("connected", "timeout")
        return said == "connected"

    def elements(self, name: str = "banned4", table: str = "banhammer") -> str:
        """Return what nft shows of a set, on one line."""
        return " ".join(self.inside("nft", "list", "set", "inet", table, name).split())

    def has(self, address: str, name: str = "banned4") -> bool:
        """Return whether the set holds this address now."""
        try:
            self.inside("nft", "get", "element", "inet", "banhammer", name, f"{{ {address} }}")
        except RuntimeError as error:
            assert "No such file or directory" in str(error)  # noqa: PT017
            return False
        return True


@contextmanager
def wired(folder: Path) -> Iterator[Network]:
    """Make the namespaces, the wire and the listener; take all of it away afterwards."""
    ip = tool("ip", "iproute2")
    tool("nft", "nftables")
    if os.geteuid():
        raise RuntimeError("these tests make network namespaces: run them as root, in a container or a virtual machine")
    suffix = f"{os.getpid()}-{next(_COUNT)}"
    host, clients = f"bh-host-{suffix}", f"bh-clients-{suffix}"
    try:
        for name in (host, clients):
            command(ip, "netns", "add", name)
            command(ip, "-n", name, "link", "set", "lo", "up")
        command(ip, "link", "add", "wire", "netns", host, "type", "veth", "peer", "name", "wire", "netns", clients)
        for name, addresses in ((host, (HOST4, HOST6)), (clients, CLIENTS)):
            for address in addresses:
                # No duplicate detection: an address works at once.
                family, whole = ("-6", ["/128", "nodad"]) if ":" in address else ("-4", ["/32"])
                command(ip, "-n", name, family, "address", "add", address + whole[0], "dev", "wire", *whole[1:])
            command(ip, "-n", name, "link", "set", "wire", "up")
            command(ip, "-n", name, "-4", "route", "add", "default", "dev", "wire")
            command(ip, "-n", name, "-6", "route", "add", "default", "dev", "wire")
        listener = subprocess.Popen(
            [ip, "netns", "exec", host, sys.executable, "-c", _LISTEN], stdout=subprocess.PIPE, text=True
        )
        try:
            assert listener.stdout
            assert listener.stdout.readline() == "listening\n"
            yield Network(host, clients, folder)
        finally:
            listener.kill()
            listener.communicate()
    finally:
        for name in (host, clients):
            subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)


def escalation(key: str, seconds: float | None = 60.0, **changed: Any) -> Escalation:
    """Return the escalation of a key that is banned for so many seconds from now."""
    now = time.time()
    values: dict[str, Any] = {
        "id": "e1",
        "key": key,
        "policy": "login",
        "threshold": 0,
        "verdict": "banned",
        "strikes": 1,
        "at": now,
        "until": None if seconds is None else now + seconds,
        "limit": 10,
        "period": 3600.0,
        "cost": 1,
        "reason": "over 10 per 1h",
        "shadow": False,
        "origin": "hit",
    }
    return Escalation(**values | changed)


def lifted(key: str) -> Escalation:
    """Return the escalation of a ban that was lifted by hand."""
    return escalation(key, None, verdict="lifted", origin="manual")
