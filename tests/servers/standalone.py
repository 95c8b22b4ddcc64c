"""One server, with what a test may want of it: a password, TLS, a unix socket, an end by force."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers.ports import HOST, free_port
from servers.process import Process
from servers.programs import MissingServerError, Program, tool
from servers.waiting import until

SECONDS = 5.0
"""How long a test's own client waits."""


class Standalone:
    """A running server on a port of 127.0.0.1 that keeps nothing on disk; `url` is what banhammer takes.

    `unix`: the URL names its socket (it listens on its port too). `tls`: it speaks only TLS, and the URL names the
    certificate. `extra`: more arguments. `config`: lines of a configuration file that the server may rewrite.
    """

    def __init__(
        self,
        program: Program,
        *,
        port: int | None = None,
        unix: bool = False,
        tls: bool = False,
        password: str | None = None,
        extra: Sequence[str] = (),
        config: str = "",
    ) -> None:
        if tls and program.name == "valkey":
            raise MissingServerError("the valkey-server of the wheel speaks no TLS; use programs.redis()")
        self.port = port or free_port()
        self._process = Process()
        folder = self._process.folder
        login = f":{quote(password, safe='')}@" if password else ""
        self.url = f"redis+unix://{login}{folder}/socket" if unix else f"redis://{login}{HOST}:{self.port}"
        self._command = [program.path]
        if config:
            (folder / "server.conf").write_text(config, "utf-8")
            self._command.append(str(folder / "server.conf"))
        self._command += ["--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "no"]
        if tls:
            certificate, key = self_signed(folder)
            self.url = f"rediss://{login}{HOST}:{self.port}?ssl_ca_certs={quote(certificate)}"
            self._command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            self._command += ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate]
        else:
            self._command += ["--port", str(self.port)]
        if unix:
            self._command += ["--unixsocket", f"{folder}/socket"]
        if password:
            self._command += ["--requirepass", password]
        self._command += extra
        self._asking = self.client(protocol=2)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{Path(self._command[0]).name} on port {self.port}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped one does."""
        return self._process.running

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._process.pid

    def client(self, **options: Any) -> Redis:
        """Return a new plain client; a connection that broke is made once more, and replies are not decoded."""
        settings = {"socket_timeout": SECONDS, "retry": Retry(NoBackoff(), 1), **options}
        client: Redis = Redis.from_url(self.url.replace("redis+unix:", "unix:"), **settings)
        return client

    def ask(self, *command: object) -> Any:
        """Return the answer to one command in the second version of the protocol, not decoded."""
        return self._asking.execute_command(*command)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Start the server, again on the same port, and wait until it answers."""
        self._process.start(self._command)
        until(self._answers, f"answering on port {self.port}")

    def stop(self) -> None:
        """Stop the process (SIGSTOP): connections are accepted by the system, and nothing answers."""
        self._process.stop()

    def cont(self) -> None:
        """Let a stopped process go on."""
        self._process.send(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait until it is gone."""
        self._process.kill()

    def heal(self) -> None:
        """Make it run and answer, whatever a test did to it."""
        if not self.running:
            self.start()
            return
        self.cont()
        until(self._answers, f"answering on port {self.port}")

    def flush(self) -> None:
        """Delete every key and every script."""
        self.ask("FLUSHALL")
        self.ask("SCRIPT FLUSH")

    def close(self) -> None:
        """End the server and delete its folder."""
        self._asking.close()
        self._process.close()

    def _answers(self) -> bool:
        if not self.running:
            raise RuntimeError(f"{self._command[0]} ended:\n{self._process.log()}")
        return bool(self._asking.ping())


def self_signed(folder: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that vouches for itself; return its file and its key's."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = [tool("openssl", "apt-get install openssl"), "req", "-x509", "-nodes", "-days", "2"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={HOST}"]
    command += ["-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
