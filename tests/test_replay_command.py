"""`banhammer replay` as people run it: in a process of its own, and what its one screen says."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from banhammer.config import load
from banhammer.replay.demo import demo_log
from banhammer.replay.engine import Rules
from banhammer.replay.page import render
from banhammer.replay.run import replay
from banhammer.replay.summary import Summary
from banhammer.replay.terminal import report

START = 1_772_438_400
RULES = """
[policies.login]
thresholds = [{ limit = 3, period = "1h", ban = ["10m", "1h"] }]
[policies.site]
thresholds = [{ limit = 2, period = "1m" }]
[[routes]]
path = "/login"
methods = ["POST"]
status = [401]
policy = "login"
[[routes]]
path = "/"
policy = "site"
[[routes]]
policy = "site"
key = "header:x-api-key"
"""


def line(at: int, request: str = "GET /", status: int = 200, ip: str = "203.0.113.9") -> str:
    moment = datetime.fromtimestamp(START + at, UTC)
    return f'{ip} - - [{moment:%d/%b/%Y:%H:%M:%S +0000}] "{request} HTTP/1.1" {status} 5 "-" "[bold]Fire\x1bfox"'


LINES = [
    *(line(at, "POST /login", 401) for at in range(6)),
    *(line(10, ip=f"192.0.2.{number}") for number in range(20)),
    *(line(20, ip="198.51.100.1") for _ in range(5)),
    "junk",
]


def text_of(summary: Summary, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(report(summary))
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "access.log").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str, stdin: bytes = b"", verb: str = "replay") -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    command = [sys.executable, "-m", "banhammer", verb, *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=environment, timeout=60)


def test_json_is_one_object_of_the_promised_shape(folder: Path) -> None:
    done = run(folder, "access.log", "--config", "rules.toml", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found == {
        "lines": 32,
        "skipped": 1,
        "first": START,
        "last": START + 20,
        "keys": 22,
        "requests": {"allowed": 26, "throttled": 3, "banned": 2},
        "denied_served": 3,
        "not_replayable": ["routes.2: site by header:x-api-key"],
        "policies": {
            "login": {"allowed": 3, "throttled": 0, "banned": 3},
            "site": {"allowed": 22, "throttled": 3, "banned": 0},
        },
        "bans": [
            {
                "key": "203.0.113.9",
                "policy": "login",
                "threshold": 0,
                "at": START + 3,
                "until": START + 603,
                "strikes": 1,
                "reason": "over 3 per 1h",
            }
        ],
    }


def test_standard_input_gzip_and_several_files_give_the_same(folder: Path) -> None:
    data = (folder / "access.log").read_bytes()
    (folder / "access.log.gz").write_bytes(gzip.compress(data))
    half = "\n".join(LINES[:15]).encode() + b"\n"
    (folder / "old.log").write_bytes(half)
    (folder / "new.log").write_bytes(data[len(half) :])
    options = ("--config", "rules.toml", "--json")
    expected = run(folder, "access.log", *options).stdout
    assert run(folder, "-", *options, stdin=data).stdout == expected
    assert run(folder, "-", *options, stdin=gzip.compress(data)).stdout == expected
    assert run(folder, "access.log.gz", *options).stdout == expected
    assert run(folder, "new.log", "old.log", *options).stdout == expected


def test_the_report_answers_without_a_configuration(folder: Path) -> None:
    done = run(folder, "access.log")
    assert done.returncode == 0
    said = done.stdout.decode()
    assert said.startswith("31 requests, 22 keys, 2 Mar 2026: let 100 % through, throttled 0 %, banned 0 %: no bans")
    assert "banhammer init" in said


def test_a_page_is_written_beside_the_report(folder: Path) -> None:
    done = run(folder, "access.log", "--config", "rules.toml", "--html", "report.html", "--mask")
    assert done.returncode == 0
    assert done.stdout.decode().endswith("The same as a page: report.html\n")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "31 requests, 22 keys" in page
    assert "203.0.113.9" not in page


def test_a_mask_hides_addresses_in_every_form_of_output(folder: Path) -> None:
    for form in ((), ("--json",)):
        done = run(folder, "access.log", "--config", "rules.toml", "--mask", *form)
        assert done.returncode == 0
        assert b"203.0.113.x" in done.stdout
        assert b"203.0.113.9" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope.log",), "nope.log: no such file or directory"),
        ((".",), ".: is a directory; name the logs in it"),
        (("access.log", "--config", "nope.toml"), "nope.toml"),
        (("access.log", "--config", "broken.toml"), "broken.toml"),
        (("access.log", "--html", "no/such/folder.html"), "no/such/folder.html"),
    ],
)
def test_a_mistake_is_said_in_one_line_and_exits_1(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "broken.toml").write_text("[policies.x\n")
    done = run(folder, *arguments)
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_hostile_logs_are_never_fatal(folder: Path) -> None:
    hostile = b"\n".join(
        [
            os.urandom(100_000),
            b"\0" * 1_000_000,
            b"{" * 100_000,
            b"\xff\xfe",
            LINES[0].encode(),
            b"\r\n",
            LINES[0].encode()[:50],
        ]
    )
    for data in (hostile, gzip.compress(hostile)[:-20], b"\x1f\x8b", b""):
        done = run(folder, "-", "--json", stdin=data)
        assert (done.returncode, done.stderr) == (0, b"")
        found = json.loads(done.stdout)
        assert found["lines"] == found["skipped"] + sum(found["requests"].values())


def summarize(folder: Path) -> Summary:
    found = load(folder / "rules.toml")
    rules = Rules(found.policies, found.routes, mode=found.mode, origin="rules.toml")
    with chdir(folder):  # The long name of a folder would fold lines.
        return replay(["access.log"], rules)


def test_the_report_fits_one_screen_and_says_it_all(folder: Path) -> None:
    said = text_of(summarize(folder))
    assert len(said.splitlines()) <= 45
    for expected in (
        "31 requests, 22 keys, 2 Mar 2026: let 83.9 % through, throttled 9.7 %, banned 6.5 %: 1 ban of 1 key",
        "3 requests (9.7 %) would have been kept out, but the log says 2xx or 3xx",
        r"198.51.100.1         3  [bold]Fire\x1bfox",
        "02 Mar 08:00:00",
        "  bans",
        "login.0     6          0       3     1            1",
        "site.0     25          3       0     0            1",
        "Not replayable, the log does not hold its key: routes.2: site by header:x-api-key",
        "nearest",
        "203.0.113.9          2   6  02 Mar 08:00:03      3      10m        1",
        "1 line (3.1 %) could not be read: left out",
        "access.log:32: no time: junk",
        "whole seconds",
        "rules.toml",
    ):
        assert expected in said


def test_a_report_holds_no_control_characters_and_no_wide_lines(folder: Path) -> None:
    for width in (60, 80, 200):
        said = text_of(summarize(folder), width)
        assert all(one.isprintable() and len(one) <= width for one in said.splitlines())


def test_rules_that_never_fired_are_named(folder: Path) -> None:
    (folder / "access.log").write_text(line(0) + "\n", encoding="utf-8")
    said = text_of(summarize(folder))
    assert "Never fired: login: no request came here" in said
    assert "Never fired: site.0: never crossed; the nearest key filled 50 %" in said


def test_an_empty_log_says_so(folder: Path) -> None:
    (folder / "access.log").write_bytes(b"")
    assert text_of(summarize(folder)).startswith("The log is empty")


def test_policies_in_shadow_are_told_with_what_they_would_have_denied(folder: Path) -> None:
    rules = folder / "rules.toml"
    rules.write_text('mode = "shadow"\n' + RULES, encoding="utf-8")
    summary = summarize(folder)
    said = text_of(summary).splitlines()
    denied = sum(policy.hits.denied for policy in summary.policies)
    assert denied > 3
    shadow = f"2 policies are in shadow, so nothing of theirs is enforced; they would have denied {denied} hits."
    assert "let 100 % through" in said[0]
    assert said[1] == shadow
    assert "None: nothing was kept out." in said
    assert shadow in render(summary)
    rules.write_text(RULES.replace("[policies.site]", '[policies.site]\nmode = "shadow"'), encoding="utf-8")
    summary = summarize(folder)
    shadow = "1 policy is in shadow, so nothing of it is enforced; it would have denied 3 hits."
    assert text_of(summary).splitlines()[1] == shadow
    assert shadow in render(summary)
    assert "None: every request that was kept out had failed anyway." in text_of(summary)


def test_rules_that_enforce_say_nothing_of_a_shadow(folder: Path) -> None:
    summary = summarize(folder)
    assert summary.shadow == ""
    assert "is enforced" not in text_of(summary) + render(summary)


# What is written where


def hashes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("page", ["access.log", "./access.log", "link", "twin", "sub/../access.log", "rules.toml"])
def test_a_page_never_takes_the_place_of_a_log_or_of_the_rules(folder: Path, page: str) -> None:
    (folder / "link").symlink_to("access.log")
    (folder / "twin").hardlink_to(folder / "access.log")
    (folder / "other.log").write_bytes(b"")
    before = hashes(folder)
    (folder / "sub").mkdir()
    done = run(folder, "other.log", "access.log", "--config", "rules.toml", "--html", page)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().endswith("; name another file for the page\n")
    (folder / "sub").rmdir()
    assert hashes(folder) == before


def test_a_page_never_takes_the_place_of_the_log_on_standard_input(folder: Path) -> None:
    command = [sys.executable, "-m", "banhammer", "replay", "-", "--html", "access.log"]
    before = hashes(folder)
    with (folder / "access.log").open("rb") as log:
        done = subprocess.run(command, cwd=folder, stdin=log, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert b"access.log: is the log that is replayed" in done.stderr
    assert hashes(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--log", "access.log"),
        ("--log", "rules.toml", "--config", "rules.toml"),
        ("--log", "new.log", "--html", "new.log"),
        ("--html", "banhammer-demo.log"),
        ("--html", "rules.toml", "--config", "rules.toml"),
    ],
)
def test_a_demo_replaces_no_file_of_somebodys_own(folder: Path, arguments: tuple[str, ...]) -> None:
    before = hashes(folder)
    done = run(folder, *arguments, verb="demo")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"; name another file" in done.stderr
    assert hashes(folder) == before


def test_a_demo_replaces_a_former_one(folder: Path) -> None:
    for seed in ("1", "2", "1"):
        done = run(folder, "--seed", seed, "--html", "page.html", "--json", verb="demo")
        assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / "banhammer-demo.log").read_text().splitlines() == demo_log(1)


def test_a_full_disk_is_told_with_the_file_that_lacks_room(folder: Path) -> None:
    page = run(folder, "access.log", "--html", "/dev/full")
    log = run(folder, "--log", "/dev/full", verb="demo")
    for done in (page, log):
        assert done.returncode == 1
        assert done.stderr == b"/dev/full: no space left on device; make room, or name another file\n"
    for verb, arguments in (("replay", ["access.log"]), ("demo", []), ("replay", ["access.log", "--json"])):
        with open("/dev/full", "wb") as full:
            command = [sys.executable, "-m", "banhammer", verb, *arguments]
            done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 1
        assert done.stderr == b"banhammer: standard output: no space left on device; make room\n"


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        ("<&-", "standard input: is closed; name a log"),
        ("0>page", "standard input: cannot be read (Bad file descriptor); "),
    ],
)
def test_standard_input_that_cannot_be_read_is_said_in_one_line(folder: Path, redirection: str, message: str) -> None:
    command = ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "banhammer", "replay", "-"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(message)
