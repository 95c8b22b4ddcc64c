"""A server's process: it runs in a folder of its own and outlives neither the tests nor their process."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers.waiting import until

_starter = ThreadPoolExecutor(1, "starts-servers")
"""A death signal is tied to the thread that started the process, so one that lives to the end starts them all."""


class Process:
    """A program that can be started, stopped, killed, and started again in the same `folder`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="banhammer-"))
        self._popen: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped one does."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._popen is not None
        return self._popen.pid

    def start(self, command: list[str]) -> None:
        """Start the program, which must not be running."""
        assert not self.running
        self._popen = _starter.submit(self._start, [*_dies_with_parent(), *command]).result()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._popen is not None
        self._popen.send_signal(number)

    def stop(self) -> None:
        """Stop the process (SIGSTOP) and wait until all its threads stand still: a signal takes a moment."""
        self.send(signal.SIGSTOP)
        until(self._stands, "stopped, all threads of it")

    def kill(self) -> None:
        """Kill the process, stopped or not, and wait until it is gone."""
        if self._popen is None:
            return
        self._popen.kill()
        self._popen.wait()

    def log(self) -> str:
        """Return the end of what the program has written."""
        return "\n".join((self.folder / "log").read_text("utf-8", "replace").splitlines()[-20:])

    def close(self) -> None:
        """Kill the process and delete its folder; in a forked child do nothing."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stands(self) -> bool:
        files = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return {file.read_text().rpartition(") ")[2][0] for file in files} <= {"T"}

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests; they end their servers.
            )


def _dies_with_parent() -> list[str]:
    """Return what a command begins with so that even SIGKILL of the tests leaves nothing behind; Linux only."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
