"""record_local: a line an escalation in real files, rotated among threads and processes, whatever happens to them."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from action_samples import escalation, hostile, plain, strict
from banhammer import BanHammer, Policy, Threshold
from banhammer.actions.line import as_json
from banhammer.actions.record import RecordLocal
from redis_children import Child

LINE = len(as_json(escalation())) + 1


def files(path: Path) -> list[Path]:
    """Return the file and the older ones, the newest first."""
    older = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: int(file.suffix[1:]))
    return [path, *older]


def lines(path: Path) -> list[Any]:
    """Return what all files hold, the oldest first; every line must be whole."""
    texts = [file.read_bytes() for file in reversed(files(path))]
    assert all(text.endswith(b"\n") for text in texts)
    return [strict(line.decode("ascii")) for text in texts for line in text.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "escalations.jsonl"


def test_the_first_escalation_makes_the_file_for_its_owner_alone(path: Path) -> None:
    action = RecordLocal(str(path))
    assert not path.exists()
    action.run(escalation())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert lines(path) == [plain(escalation())]


def test_a_lift_and_a_redelivery_are_lines_of_their_own(path: Path) -> None:
    action = RecordLocal(str(path))
    action.run(escalation())
    action.run(escalation())
    action.lift(escalation(verdict="lifted"))
    assert [(line["id"], line["verdict"]) for line in lines(path)] == [
        ("7f3a", "banned"), ("7f3a", "banned"), ("7f3a", "lifted"),
    ]  # fmt: skip


def test_a_hammer_records_its_bans_and_lifts(path: Path) -> None:
    policy = Policy("p", [Threshold(1, "1h", ban="forever", actions=["record_local"])])
    with BanHammer([policy], actions={"record_local": RecordLocal(str(path))}) as hammer:
        hammer.hit("k", "p")
        hammer.hit("k", "p")
        hammer.unban("k", "p")
        assert hammer.drain(5)
    first, second = lines(path)
    assert (first["verdict"], first["until"], first["origin"]) == ("banned", "forever", "hit")
    assert (second["verdict"], second["id"], second["origin"]) == ("lifted", first["id"], "manual")


def test_five_hundred_hostile_keys_are_five_hundred_lines_that_read_back(path: Path) -> None:
    samples = hostile()
    action = RecordLocal(str(path))
    for each in samples:
        action.run(each)
    assert lines(path) == [plain(each) for each in samples]


def test_the_file_is_rotated_before_it_would_grow_too_large_and_the_oldest_leaves(path: Path) -> None:
    action = RecordLocal(str(path), max_bytes=2 * LINE, keep=2)
    for number in range(9):
        action.run(escalation(id=f"{number:04}"))
    assert [[json.loads(line)["id"] for line in file.read_text().splitlines()] for file in files(path)] == [
        ["0008"], ["0006", "0007"], ["0004", "0005"],
    ]  # fmt: skip
    assert all(file.stat().st_size <= 2 * LINE for file in files(path))


def test_a_line_that_is_longer_than_a_file_gets_a_file_of_its_own(path: Path) -> None:
    action = RecordLocal(str(path), max_bytes=1, keep=3)
    for number in range(3):
        action.run(escalation(id=str(number)))
    assert [line["id"] for line in lines(path)] == ["0", "1", "2"]
    assert len(files(path)) == 3


def test_a_gap_in_the_older_files_is_no_hindrance(path: Path) -> None:
    action = RecordLocal(str(path), max_bytes=1, keep=9)
    for number in range(4):
        action.run(escalation(id=str(number)))
    Path(f"{path}.2").unlink()
    action.run(escalation(id="4"))
    assert [line["id"] for line in lines(path)] == ["0", "2", "3", "4"]


def test_whoever_moves_or_deletes_the_file_gets_a_new_one(path: Path) -> None:
    action = RecordLocal(str(path))
    action.run(escalation(id="1"))
    path.rename(path.with_name("moved"))
    action.run(escalation(id="2"))
    path.unlink()
    action.run(escalation(id="3"))
    assert [line["id"] for line in lines(path)] == ["3"]


def test_a_line_that_a_killed_process_left_torn_stays_alone(path: Path) -> None:
    path.write_bytes(b'{"id":"torn","key":"a')
    RecordLocal(str(path)).run(escalation())
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"id":"torn","key":"a'
    assert strict(whole.decode()) == plain(escalation())


def test_threads_lose_and_tear_nothing(path: Path) -> None:
    action = RecordLocal(str(path), max_bytes=10 * LINE, keep=1000)

    def write(number: int) -> None:
        for index in range(200):
            action.run(escalation(id=f"{number}.{index}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(line["id"] for line in lines(path)) == Counter(f"{n}.{i}" for n in range(4) for i in range(200))


WRITER = """
import sys
from action_samples import escalation
from banhammer.actions.record import RecordLocal

path, number, count, max_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
action = RecordLocal(path, max_bytes=max_bytes, keep=1000)
print("ready", flush=True)
sys.stdin.readline()
for index in range(count):
    action.run(escalation(id=f"{number}.{index}"))
"""


def test_processes_that_write_2000_lines_each_into_tiny_files_lose_and_tear_nothing(path: Path) -> None:
    count, max_bytes = 2000, 50 * LINE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number), str(count), str(max_bytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(4)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    found = lines(path)
    assert Counter(line["id"] for line in found) == Counter(f"{n}.{i}" for n in range(4) for i in range(count))
    assert all(file.stat().st_size <= max_bytes for file in files(path))
    for number in range(4):  # In the order in which each wrote them.
        own = [int(line["id"].partition(".")[2]) for line in found if line["id"].startswith(f"{number}.")]
        assert own == list(range(count))


def test_a_forked_child_writes_the_same_file(path: Path) -> None:
    action = RecordLocal(str(path))
    action.run(escalation(id="parent"))
    Child(lambda: action.run(escalation(id="child"))).result()
    action.run(escalation(id="again"))
    assert [line["id"] for line in lines(path)] == ["parent", "child", "again"]


def test_a_line_for_which_there_is_no_room_is_not_left_half_written(path: Path) -> None:
    action = RecordLocal(str(path))
    action.run(escalation())

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LINE + 50, LINE + 50))
        with pytest.raises(OSError) as caught:
            action.run(escalation(id="second"))
        return f"{caught.value}"

    assert str(path) in Child(work).result()
    assert lines(path) == [plain(escalation())]
    action.run(escalation(id="third"))
    assert [line["id"] for line in lines(path)] == ["7f3a", "third"]


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("no/such/folder", "pipe", "."):
        path = str(tmp_path / name)
        with pytest.raises(OSError) as caught:
            RecordLocal(path).run(escalation())
        assert caught.value.filename == path
        assert repr(path) in str(caught.value)


def test_a_lock_that_another_process_keeps_is_an_error_that_names_the_path(path: Path, monkeypatch) -> None:
    import fcntl

    monkeypatch.setattr("banhammer.actions.record.PATIENCE", 0.05)
    action = RecordLocal(str(path))
    action.run(escalation())
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError) as caught:
            action.run(escalation())
        assert str(path) in str(caught.value)
    action.run(escalation())
    assert len(lines(path)) == 2


def test_no_file_stays_open(path: Path) -> None:
    action = RecordLocal(str(path), max_bytes=LINE, keep=2)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        action.run(escalation())
    assert len(os.listdir("/proc/self/fd")) == len(before)
