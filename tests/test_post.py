"""`banhammer worker` and `banhammer dead-letters`, as an operator runs them: beside an application, on its store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from acting import Act
from banhammer import GiveUp, cli
from delivery import NOTHING, hammer_on, left_over, names_of, trap, working
from redis_stores import Store
from servers.standalone import Standalone
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)

PLUGIN = """
import os, time
from banhammer import GiveUp, hookimpl

def write(escalation):
    with open(os.environ["PLUG_LOG"], "a") as log:
        log.write(f"{escalation.id}\\\\n")

def slow(escalation):
    write(escalation)
    time.sleep(0.2)

def hang(escalation):
    write(escalation)
    time.sleep(60)

def fail(escalation):
    raise GiveUp("no such host\\x1b[31m")

@hookimpl
def banhammer_actions():
    return {"write": write, "slow": slow, "hang": hang, "fail": fail}
""".replace("\\\\n", "\\n")
NAMED = ("write", "slow", "hang", "fail", "unknown")
Command = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a plugin that is as good as installed."""
    about = tmp_path / "plug-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[banhammer]\nplug = plug_post\n")
    (tmp_path / "plug_post.py").write_text(PLUGIN)
    return tmp_path


@pytest.fixture
def started(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a worker beside the test, on a store."""
    running: list[subprocess.Popen[str]] = []

    def start(store: Store, *arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
        path = os.pathsep.join([str(place), environment.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "banhammer", "worker", *arguments, "--config", configured(place, store.url)]
        running.append(
            subprocess.Popen(
                command,
                env={**environment, "PYTHONPATH": path, "PLUG_LOG": str(place / "log")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command to its end, and returns its exit code and what it printed."""

    def run(url: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["banhammer", *arguments, "--config", configured(place, url)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


def configured(place: Path, url: str) -> str:
    """Write rules, a policy for each action, and return their file."""
    rows = [
        f"[policies.{name}]\n"
        f"thresholds = [{{ limit = 1, period = '1h', burst = 0, ban = '1d', actions = ['{name}'] }}]\n"
        for name in NAMED
    ]
    file = place / "rules.toml"
    file.write_text(f"backend = '{url}'\n" + "\n".join(rows))
    return str(file)


def banned(store: Store, name: str, *keys: str) -> list[str]:
    """Ban keys under the policy of an action, and return the escalations' ids."""
    with hammer_on(store, [trap(name, name=name)]) as hammer:
        for key in keys:
            assert not hammer.hit(key, name)
        return sorted(ban.id for ban in hammer.bans())


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def logged(place: Path) -> list[str]:
    return sorted((place / "log").read_text().split())


def test_a_worker_runs_what_waits_once_and_tells_what_it_did(store: Store, place: Path, started: Command) -> None:
    ids = banned(store, "write", "a\x1b[31m", "b")
    out, err = started(store, "--once").communicate(timeout=30)
    assert err == ""
    first, left, *middle, last = out.splitlines()
    assert first.startswith("worker on redis")
    assert first.endswith("; runs fail, hang, slow, write")
    assert left == "left to others, as no plugin here gives them: unknown"
    assert sorted(line[9:] for line in middle) == [
        "write ran, a\\x1b[31m banned under write",
        "write ran, b banned under write",
    ]
    assert last == "ended; 2 ran, 0 failed, 0 dead"
    assert logged(place) == ids
    assert left_over(store) == NOTHING


def test_a_worker_tells_as_json_what_happens_as_it_happens(single: Standalone, started: Command) -> None:
    ids = banned(single, "write", "a")
    banned(single, "fail", "b")
    process = started(single, "--once", "--json")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (0, 1), err
    began, *middle, ended = rows(out)
    assert began == {
        "event": "began", "store": single.url, "actions": ["fail", "hang", "slow", "write"],
        "left_to_others": ["unknown"],
    }  # fmt: skip
    told = {row["event"]: row for row in middle}
    assert (told["ran"]["action"], told["ran"]["escalation"]["id"]) == ("write", ids[0])
    assert (told["dead"]["action"], told["dead"]["escalation"]["key"]) == ("fail", "b")
    assert told["dead"]["error"].startswith("GiveUp: no such host\\x1b[31m (")
    assert ended == {"event": "ended", "in_time": True, "ran": 1, "failed": 0, "dead": 1}


def test_sigterm_ends_a_worker_after_what_it_is_doing(single: Standalone, place: Path, started: Command) -> None:
    process = started(single)
    until(lambda: single.ask("EXISTS", names_of(single).escalations(0)) == 1, "a worker that looks")
    ids = banned(single, "slow", *map(str, range(50)))
    until(lambda: (place / "log").exists(), "one run")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, "")
    ran = logged(place)
    assert set(ran) < set(ids)
    assert out.splitlines()[-1] == f"ended; {len(ran)} ran, 0 failed, 0 dead"
    assert left_over(single) == {**NOTHING, "escalations": 50 - len(ran)}
    assert started(single, "--once").wait(30) == 0
    assert sorted(logged(place)) == sorted(ids)
    assert left_over(single) == NOTHING


def test_sigterm_ends_a_worker_within_its_bound_and_hands_back_what_hangs(
    single: Standalone, place: Path, started: Command
) -> None:
    ids = banned(single, "hang", "k")
    process = started(single, "--drain", "300ms")
    until(lambda: (place / "log").exists(), "the action begun")
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=15)
    assert monotonic() - began < 5
    assert process.returncode == 1
    assert "what did not end in time is run again by another worker" in out.splitlines()[-1]
    act = Act()
    with working(single, {"hang": act}):
        until(lambda: bool(act.ran), "run by another", seconds=8)
    assert [each.id for each in act.ran] == ids


def test_dead_letters_are_listed_delivered_anew_and_dropped(store: Store, run: Command) -> None:
    code, out, _ = run(store.url, "dead-letters", "list")
    assert (code, out) == (1, "0 dead, 0 waiting or under way, 0 dropped because too many waited\n")
    assert run(store.url, "dead-letters", "retry", "--all")[:2] == (1, "no dead letter\n")
    banned(store, "write", "a\n", "b", "c")
    with working(store, {"write": Act(then=GiveUp("no\x1b[31m"))}):
        until(lambda: left_over(store)["dead"] == 3, "three dead letters")
    code, out, _ = run(store.url, "dead-letters", "list")
    assert code == 0
    assert "3 dead, 0 waiting or under way, 0 dropped because too many waited" in out
    assert "a\\n" in out
    assert "\x1b" not in out
    code, out, _ = run(store.url, "dead-letters", "list", "--json")
    told = json.loads(out)
    assert told["backlog"] == {"waiting": 0, "dead": 3, "dropped": 0}
    letters = {each["escalation"]["key"]: each for each in told["dead_letters"]}
    assert sorted(letters) == ["a\n", "b", "c"]
    assert letters["b"]["attempts"] == 1
    assert letters["b"]["error"].startswith("GiveUp: no\\x1b[31m (")

    id = letters["b"]["id"]
    assert run(store.url, "dead-letters", "drop", id, "9:1-1\x1b")[:2] == (
        0,
        f"{id}: dropped\n9:1-1\\x1b: no such dead letter\n",
    )
    assert run(store.url, "dead-letters", "drop", id)[0] == 1
    id = letters["c"]["id"]
    assert json.loads(run(store.url, "dead-letters", "retry", id, "--json")[1]) == {"delivered_anew": [id]}
    assert run(store.url, "dead-letters", "retry", "--all")[0] == 0
    act = Act()
    with working(store, {"write": act}):
        until(lambda: left_over(store) == NOTHING, "delivered")
    assert sorted(each.id for each in act.ran) == sorted(letters[key]["escalation"]["id"] for key in ("a\n", "c"))


@pytest.mark.parametrize("command", [("worker", "--once"), ("dead-letters", "list"), ("dead-letters", "drop", "--all")])
def test_a_store_that_keeps_no_escalations_has_no_worker(command: tuple[str, ...], run: Command) -> None:
    code, out, err = run("memory://", *command)
    assert (code, out) == (2, "")
    assert err.startswith("backend: memory:// ")
    assert err.count("\n") == 1


def test_what_cannot_be_meant_or_known_is_a_2(single: Standalone, run: Command) -> None:
    for arguments in (
        ("dead-letters", "drop"),
        ("dead-letters", "retry", "0:1-1", "--all"),
        ("worker", "--drain", "x"),
    ):
        code, out, err = run(single.url, *arguments)
        assert (code, out) == (2, "")
        assert err
    code, out, err = run("redis://:sesame@127.0.0.1:1", "dead-letters", "list")
    assert (code, out) == (2, "")
    assert "sesame" not in err
