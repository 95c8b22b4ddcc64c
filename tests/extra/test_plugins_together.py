"""The plugins of plugins/, installed, in a worker of their own: what a ban sets off, and that a lift undoes it.

Needs root, `ip`, `nft` and redis-server, and the plugins:
`pip install --no-deps -e plugins/banhammer-webhook -e plugins/banhammer-nftables`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers import programs
from servers.standalone import Standalone
from servers.waiting import until

SPACE = f"banhammer-{os.getpid()}"
KEY = "198.51.100.7"
ENVIRONMENT = {**os.environ, "BANHAMMER_LOAD_PLUGINS": "banhammer-webhook,banhammer-nftables"}
RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[1], "ab") as file:
            file.write(body + b"\\n")
        self.send_response(204)
        self.end_headers()

HTTPServer(("127.0.0.1", 8080), Receiver).serve_forever()
"""
RULES = """
backend = "{url}"
deadline = "2s"
worker = "external"

[policies.trap]
thresholds = [{{ limit = 1, period = "1h", burst = 0, ban = "1h", actions = ["webhook", "nftables"] }}]

[actions.webhook]
url = "http://127.0.0.1:8080/"
secret = "only we know this"
allow_private = true

[actions.nftables]
widest_v4 = 24
"""


@pytest.fixture
def space() -> Iterator[list[str]]:
    """A network of its own, with nothing but a loopback; the beginning of a command that runs in it."""
    subprocess.run(["ip", "netns", "add", SPACE], check=True)
    try:
        subprocess.run(["ip", "-n", SPACE, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", SPACE]
    finally:
        subprocess.run(["ip", "netns", "delete", SPACE], check=True)


@pytest.fixture
def server() -> Iterator[Standalone]:
    """A server that is reached by a socket, also from another network."""
    with Standalone(programs.redis(), unix=True) as server:
        yield server


def banhammer(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "banhammer", *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_a_ban_is_reported_and_blocked_and_a_lift_undoes_both(
    space: list[str], server: Standalone, tmp_path: Path
) -> None:
    (tmp_path / "banhammer.toml").write_text(RULES.format(url=server.url), "utf-8")
    plugins = json.loads(banhammer("plugins", "--json", folder=tmp_path))["plugins"]
    assert {each["name"] for each in plugins if each["problem"] is None} >= {"webhook", "nftables"}
    told = tmp_path / "told.jsonl"
    told.touch()

    def reported() -> list[dict[str, Any]]:
        return [json.loads(line) for line in told.read_text("utf-8").splitlines()]

    def blocked() -> bool:
        listing = subprocess.run([*space, "nft", "list", "ruleset"], check=True, capture_output=True, text=True)
        return KEY in listing.stdout

    receiver = subprocess.Popen([*space, sys.executable, "-c", RECEIVER, str(told)], stderr=subprocess.DEVNULL)
    command = [*space, sys.executable, "-m", "banhammer", "worker", "--json"]
    worker = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        banhammer("ban", KEY, "trap", folder=tmp_path)
        until(lambda: len(reported()) == 1 and blocked(), "reported and blocked", seconds=30)
        banhammer("unban", KEY, folder=tmp_path)
        until(lambda: len(reported()) == 2 and not blocked(), "reported as lifted, and let go", seconds=30)
        made, undone = reported()
        assert [made["verdict"], undone["verdict"]] == ["banned", "lifted"]
        assert made["id"] == undone["id"]
        assert made["key"] == undone["key"] == KEY
        worker.send_signal(signal.SIGTERM)
        events = [json.loads(line) for line in worker.communicate(timeout=30)[0].splitlines()]
        assert worker.returncode == 0
        assert events[-1]["ran"] == 4
        assert (events[-1]["failed"], events[-1]["dead"]) == (0, 0)
    finally:
        for process in (worker, receiver):
            process.kill()
            process.wait()
