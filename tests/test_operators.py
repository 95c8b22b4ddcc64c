"""The operators' commands, run in this process on a store that only claims to be shared, at a manual clock."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from banhammer import cli
from banhammer.backends import Traits
from one_policy import SECOND, START
from operators_shop import IP, RULES, SharedStore, Shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    shop = Shop(tmp_path, monkeypatch, capsys)
    yield shop
    shop.hammer.close()


# What cannot be known.

COMMANDS = [
    ["ban", IP, "login"], ["unban", IP], ["bans"], ["status", IP], ["reset", IP], ["explain", IP, "login"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_store_that_is_away_exits_2_without_its_secrets(shop: Shop, arguments: list[str], options: list[str]) -> None:
    shop.store.away = True
    done = shop.run(*arguments, *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "cannot reach" in done.err
    assert "sesame" not in done.err


def run_alone(folder: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    return subprocess.run(
        [sys.executable, "-m", "banhammer", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=30, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_store_inside_its_process_is_not_asked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(SharedStore, "traits", Traits())
    shop.store.away = True
    done = shop.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert " lives inside its process, so no other can ask it; use a shared store, " in done.err


def test_memory_cannot_be_asked_from_outside(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(re.sub(r"redis://.*", 'memory://sesame@h"', RULES))
    done = run_alone(tmp_path, "unban", IP, "--config", "rules.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("backend: memory://***@h lives inside its process")
    assert done.stderr.count("\n") == 1


def test_help_names_the_options(tmp_path: Path) -> None:
    done = run_alone(tmp_path, "ban", "--help")
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--for", "--threshold", "--reason", "--config", "--json"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["unban", IP, "logn"], "unknown policy 'logn'; did you mean 'login'?"),
        (["bans", "--policy", "nope"], "unknown policy 'nope'; known: api, both, login"),
        (["status", ""], "key: ''; it must not be empty"),
        (["ban", IP, "login", "--for", "soon"], "'soon' is not a duration; write "),
        (["ban", IP, "login", "--for", "20000d"], "duration: '20000d'; at most ten years, or forever"),
        (["ban", IP, "login", "--threshold", "2"], "threshold: 2; policy 'login' has 0 to 1"),
        (["ban", IP, "api"], "duration: none given, and threshold 0 of policy 'api' has no ladder; give one"),
        (["ban", "10.1.2.3", "login"], "key: '10.1.2.3' is allowlisted for policy 'login'; "),
        (["bans", "--config", "none.toml"], "none.toml: "),
    ],
)
def test_a_wrong_argument_exits_2_and_says_what_is_right(shop: Shop, arguments: list[str], told: str) -> None:
    done = shop.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(told)
    assert list(shop.hammer.bans()) == []


def test_a_mistake_in_the_file_exits_2(shop: Shop) -> None:
    shop.file.write_text('mode = "of"\n')
    done = shop.run("bans")
    assert (done.code, done.out) == (2, "")
    assert done.err == "banhammer.toml:1: mode: 'of'; write 'enforce' or 'shadow'\n"


def test_output_that_cannot_be_written_does_not_look_like_nothing_to_do(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from banhammer import cli
        sys.argv[1:] = ["bans"]
        cli.build_app = lambda: lambda **_: print("a ban")
        cli.main()
    """
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, timeout=30
        )
    assert done.returncode == 2


def test_a_missing_package_does_not_look_like_nothing_to_do(tmp_path: Path) -> None:
    code = "import sys; sys.modules['typer'] = None\nsys.argv[1:] = ['bans']\nfrom banhammer.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "pip install" in done.stderr


def test_the_commands_whose_mistakes_exit_2_are_the_operators_ones() -> None:
    assert {*(arguments[0] for arguments in COMMANDS), "worker", "dead-letters"} == cli._OPERATORS


def test_a_command_is_patient_asks_the_store_itself_and_lets_go_of_it(shop: Shop) -> None:
    shop.run("bans")
    assert shop.store.settings == {"deadline": 5 * SECOND, "denial_cache": False}
    assert shop.store.closed == 2  # Once opened to check the URL, once to ask.
    shop.file.write_text(f'deadline = "9s"\n{RULES}')
    shop.run("bans")
    assert shop.store.settings["deadline"] == 9 * SECOND


def test_a_store_that_cannot_list_its_bans_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedStore, "traits", Traits(shared=True, lists_bans=False))
    done = shop.run("bans")
    assert (done.code, done.out) == (2, "")
    assert "cannot list its bans" in done.err


# Banning and lifting.


def test_a_ban_by_hand_keeps_the_application_s_requests_out(shop: Shop) -> None:
    done = shop.run("ban", IP, "login", "--for", "2h", "--reason", "credential stuffing")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{IP} under login: banned until 2025-06-15 17:06:40 UTC, strike 1",
        "not run here, as only the application has them: page_somebody",
    ]
    decision = shop.hammer.hit(IP, "login")
    assert (decision.verdict, decision.retry_after) == ("banned", 7200.0)


def test_a_ban_without_a_duration_takes_the_ladder_of_the_threshold(shop: Shop) -> None:
    found = shop.run("ban", IP, "login", "--threshold", "1", "--json").json
    assert found["ban"].pop("id")
    assert found == {
        "ban": {
            "key": IP, "policy": "login", "threshold": 1, "strikes": 1, "since": START / 1e6,
            "until": START / 1e6 + 7 * 86400, "origin": "manual", "reason": "",
        },
        "actions_not_run": [],
    }  # fmt: skip


def test_a_ban_for_ever_ends_with_null(shop: Shop) -> None:
    assert shop.run("ban", IP, "login", "--for", "forever", "--json").json["ban"]["until"] is None
    assert shop.run("ban", "x", "login", "--for", "forever").out.startswith("x under login: banned for ever, strike 1")


def test_a_ban_in_force_is_not_shortened_and_the_command_says_so(shop: Shop) -> None:
    shop.hits(11)
    done = shop.run("ban", IP, "login", "--for", "1m", "--reason", "mine")
    assert done.code == 0
    assert done.out.startswith(
        f"{IP} under login: banned until 2025-06-15 16:06:40 UTC, strike 1; it was in force and is never shortened"
    )


def test_unban_without_a_policy_lifts_every_ban_of_the_key(shop: Shop) -> None:
    shop.hits(11)
    shop.hammer.ban(IP, "both")
    done = shop.run("unban", IP)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{IP} under login: lifted, was banned until 2025-06-15 16:06:40 UTC",
        f"{IP} under both: lifted, was banned for ever",
        "not run here, as only the application has them: page_somebody",
    ]
    assert list(shop.hammer.bans()) == []
    done = shop.run("unban", IP)
    assert (done.code, done.out) == (1, f"{IP}: no ban in force\n")
    assert shop.run("unban", IP, "--json") == (1, '{"lifted": [], "actions_not_run": []}\n', "")


def test_unban_with_a_policy_lifts_only_that_ban(shop: Shop) -> None:
    shop.hits(11)
    shop.hammer.ban(IP, "both")
    lifted = shop.run("unban", IP, "both", "--json").json["lifted"]
    assert [(ban["policy"], ban["until"]) for ban in lifted] == [("both", None)]
    assert [ban.policy for ban in shop.hammer.bans()] == ["login"]


# Which key is meant.


@pytest.mark.parametrize("typed", [IP, "::ffff:203.0.113.9", " 203.0.113.9 ", "203.0.113.9:443", "2002:cb00:7109::1"])
def test_an_address_in_any_spelling_is_the_key_that_the_routes_count(shop: Shop, typed: str) -> None:
    assert shop.run("ban", typed, "login", "--json").json["ban"]["key"] == IP
    assert shop.run("ban", typed, "api", "--for", "1h", "--json").json["ban"]["key"] == "203.0.113.0/24"
    lifted = shop.run("unban", typed, "--json").json["lifted"]
    assert [(ban["key"], ban["policy"]) for ban in lifted] == [(IP, "login"), ("203.0.113.0/24", "api")]


def test_a_policy_that_counts_an_address_twice_wants_one_of_its_keys(shop: Shop) -> None:
    done = shop.run("ban", "2001:db8::1", "both")
    assert done.code == 2
    assert done.err == (
        "key: policy 'both' counts '2001:db8::1' as 2001:db8::/64 and as 2001:db8::/48; name one of them\n"
    )
    for key in ("2001:db8::/64", "2001:db8::/48", IP):
        assert shop.run("ban", key, "both", "--json").json["ban"]["key"] == key


@pytest.mark.parametrize(
    "key", [IP, "203.0.113.0/24", "2001:db8::1", "::ffff:1.2.3.4", "user:ann", "a b", "\x1b[31m", "10.0.0.300", "ä"]
)
@pytest.mark.parametrize("policy", ["login", "api", "both"])
def test_unban_takes_every_key_that_bans_lists(shop: Shop, key: str, policy: str) -> None:
    shop.hammer.ban(key, policy, "1h")
    listed = json.loads(shop.run("bans", "--json").out)
    assert listed["key"] == key
    assert [ban["key"] for ban in shop.run("unban", listed["key"], policy, "--json").json["lifted"]] == [key]


def test_a_key_that_is_no_address_is_taken_as_it_stands(shop: Shop) -> None:
    shop.run("ban", "user:Ann", "login")
    assert [ban.key for ban in shop.hammer.bans()] == ["user:Ann"]
    assert shop.run("unban", "user:ann").code == 1


# Listing.


def test_bans_are_listed_as_a_table_that_cuts_nothing(shop: Shop) -> None:
    long = "user:" + "x" * 200
    shop.hits(11)
    shop.hammer.ban(long, "both", "forever", reason="by\nhand")
    done = shop.run("bans")
    assert (done.code, done.err) == (0, "")
    head, first, second = (re.split(r" {2,}", line.strip()) for line in done.out.splitlines())
    assert head == ["key", "policy", "since", "until", "strikes", "by", "reason"]
    assert first == [
        IP, "login", "2025-06-15 15:06:40 UTC", "2025-06-15 16:06:40 UTC", "1", "hit", "over 10 per 1h",
    ]  # fmt: skip
    assert second == [long, "both", "2025-06-15 15:06:40 UTC", "for ever", "1", "hand", "by\\nhand"]


def test_bans_are_streamed_as_json_lines_and_by_policy(shop: Shop) -> None:
    for number in range(1_100):
        shop.hammer.ban(f"user:{number}", "both")
    shop.hits(11)
    lines = [json.loads(line) for line in shop.run("bans", "--json").out.splitlines()]
    assert len(lines) == 1_101
    assert list(lines[0]) == ["key", "policy", "threshold", "strikes", "since", "until", "origin", "reason", "id"]
    done = shop.run("bans", "--policy", "login", "--json")
    assert [ban["key"] for ban in map(json.loads, done.out.splitlines())] == [IP]
    assert len(re.findall(r"^user:", shop.run("bans").out, re.MULTILINE)) == 1_100


def test_no_ban_in_force_exits_1(shop: Shop) -> None:
    assert shop.run("bans") == (1, "no ban in force\n", "")
    assert shop.run("bans", "--json") == (1, "", "")
    shop.hammer.ban(IP, "login")
    assert shop.run("bans", "--policy", "api").code == 1


def test_a_key_cannot_steer_the_terminal(shop: Shop) -> None:
    shop.hammer.ban("user:\x1b[2J\u202e[bold]", "login")
    for arguments in (["bans"], ["status", "user:\x1b[2J\u202e[bold]"], ["explain", "user:\x1b[2J\u202e[bold]"]):
        out = shop.run(*arguments).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "user:\\x1b[2J\\u202e[bold]" in out


# Status and reset.


def test_status_shows_the_record_in_numbers(shop: Shop) -> None:
    shop.hits(11)
    found = shop.run("status", IP, "--json").json
    assert found["key"] == IP
    (record,) = found["records"]
    assert record["ban"].pop("id")
    assert record == {
        "key": IP, "policy": "login", "strikes": 1, "banned_until": START / 1e6 + 3600, "level": 0,
        "tats": [0.0, START / 1e6 + 11 * 36], "over": [False, False], "remaining": [10, 89], "reset_after": 3600.0,
        "rates": {"1m": 11},
        "ban": {
            "key": IP, "policy": "login", "threshold": 0, "strikes": 1, "since": START / 1e6,
            "until": START / 1e6 + 3600, "origin": "hit", "reason": "over 10 per 1h",
        },
    }  # fmt: skip
    head, row = (re.split(r" {2,}", line.strip()) for line in shop.run("status", IP, "login").out.splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "key": IP, "policy": "login", "strikes": "1", "banned until": "2025-06-15 16:06:40 UTC", "room": "10, 89",
        "hits": "11 in 1m", "as new in": "1h",
    }  # fmt: skip


def test_status_of_a_key_that_nobody_saw_exits_1(shop: Shop) -> None:
    assert shop.run("status", IP) == (1, f"{IP}: nothing is known, as if never seen\n", "")
    assert shop.run("status", IP, "--json") == (1, f'{{"key": "{IP}", "records": []}}\n', "")


def test_reset_makes_the_key_as_if_never_seen(shop: Shop) -> None:
    shop.hits(11)
    shop.hits(1, "203.0.113.0/24", "api")
    assert shop.run("reset", IP) == (
        0, f"{IP} under login: as if never seen\n203.0.113.0/24 under api: as if never seen\n", "",
    )  # fmt: skip
    assert list(shop.hammer.status_all()) == []
    assert shop.run("reset", IP) == (1, f"{IP}: nothing to forget\n", "")


def test_reset_can_keep_strikes_and_the_ban(shop: Shop) -> None:
    shop.hits(11)
    done = shop.run("reset", IP, "login", "--keep-strikes", "--json")
    assert (done.code, done.json) == (0, {"reset": [{"key": IP, "policy": "login"}]})
    status = shop.hammer.status(IP, "login")
    assert (status.strikes, status.tats, status.banned_until) == (1, (0.0, 0.0), START / 1e6 + 3600)
    assert shop.run("reset", IP, "login", "--keep-strikes", "--json") == (1, '{"reset": []}\n', "")
