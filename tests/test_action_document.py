"""The document of an escalation, and the settings that the built-in actions are made from."""

from __future__ import annotations

import math
import subprocess
import sys
import traceback

import pytest

from action_samples import escalation, hostile, plain, strict
from banhammer import BanHammer, ConfigError, Policy, Threshold
from banhammer.actions.builtin import MAKERS as BUILT_IN
from banhammer.actions.builtin import banhammer_actions
from banhammer.actions.line import as_json


@pytest.mark.parametrize("until", [None, 1_700_003_600.5, math.inf])
def test_the_document_holds_every_field_of_an_escalation_in_its_order(until: float | None) -> None:
    each = escalation(until=until)
    assert list(strict(as_json(each)).items()) == list(plain(each).items())


def test_five_hundred_hostile_keys_stay_one_printable_line_each_and_read_back() -> None:
    samples = hostile()
    assert len(samples) == 500
    for each in samples:
        line = as_json(each)
        assert all(" " <= sign <= "~" or sign == "\x7f" for sign in line)
        assert strict(line) == plain(each)


def mistakes(settings: dict[str, dict[str, object]]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        BanHammer([], action_settings=settings)
    return list(caught.value.mistakes)


def test_all_mistakes_of_all_tables_are_told_at_once_with_remedies() -> None:
    assert mistakes(
        {
            "block_local": {"max_keys": True},
            "record_local": {"pth": "x", "max_bytes": "10 apples", "keep": 0},
            "report_central": {"stream": "redis://h/0", "max_len": "many", "nme": "x", "color": 1},
        }
    ) == [
        "actions.block_local.max_keys: True; write a whole number from 1 to 10,000,000",
        "actions.record_local.max_bytes: '10 apples'; write a size from 1 to 1,000,000,000,000 bytes, like '10MB'",
        "actions.record_local.keep: 0; write a whole number from 1 to 1,000",
        "actions.record_local.pth: unknown setting; did you mean 'path'?",
        "actions.report_central.max_len: 'many'; write a whole number from 1 to 100,000,000",
        "actions.report_central.nme: unknown setting; did you mean 'name'?",
        "actions.report_central.color: unknown setting; known: url, stream, name, max_len",
    ]


@pytest.mark.parametrize(
    ("size", "bytes_"), [(5, 5), ("5", 5), ("7B", 7), ("20kb", 20_000), (" 10 MB ", 10_000_000), ("1GB", 10**9)]
)
def test_a_size_is_a_number_of_bytes_or_a_text_with_a_unit(size: object, bytes_: int) -> None:
    made = banhammer_actions({"record_local": {"max_bytes": size}})
    assert f"max_bytes={bytes_}," in repr(made["record_local"])


@pytest.mark.parametrize("size", [0, -1, True, 1.5, None, "", "MB", "-1MB", "1.5MB", "1TB", "10000GB", "9" * 5000, []])
def test_what_is_no_size_is_a_mistake(size: object) -> None:
    assert len(mistakes({"record_local": {"max_bytes": size}})) == 1


@pytest.mark.parametrize("path", ["", "a\0b", "\ud800", 5, None])
def test_what_no_file_can_be_called_is_a_mistake(path: object) -> None:
    (mistake,) = mistakes({"record_local": {"path": path}})
    assert mistake.endswith("; write the name of a file")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "https://h/", "stream": "redis://h/0"}, "url: 'https://h/', and a stream is set too; leave one"),
        ({"url": ""}, "url: ''; write https://host/path"),
        ({"url": "ftp://h/"}, "url: 'ftp://h/'; write https://host/path"),
        ({"url": "https://h/a b"}, "write https://host/path"),
        ({"url": "https://h/a\r\nX: 1"}, "write https://host/path"),
        ({"url": "https://h:0x50/"}, "no host and port that can be read"),
        ({"url": "https://[::1/"}, "no host and port that can be read"),
        ({"url": "https://u:secret@h/"}, "url: 'https://u:***@h/' holds a login, which is not sent"),
        ({"name": "x"}, "name: it belongs to a stream; set stream too"),
        ({"url": "https://h/", "max_len": 9}, "max_len: it belongs to a stream; set stream too"),
        ({"stream": "memcached://h"}, "stream: 'memcached://h'; write redis://host:6379/0"),
        ({"stream": "redis+cluster://h"}, "stream: 'redis+cluster://h'; write redis://host:6379/0"),
        ({"stream": "redis://:secret@h:secret/0"}, "stream: 'redis://:***@h:***/0' cannot be read"),
        ({"stream": "redis://h/0?colour=secret"}, "stream: 'redis://h/0?***' cannot be read"),
    ],
)
def test_a_report_that_can_reach_nobody_is_a_mistake(settings: dict[str, object], told: str) -> None:
    (mistake,) = mistakes({"report_central": settings})
    assert told in mistake
    assert "secret" not in mistake


def test_a_secret_is_neither_in_a_repr_nor_in_the_cause_of_a_mistake() -> None:
    for settings in ({"url": "https://h/x?token=secret"}, {"stream": "redis://u:secret@h:6379/0?db=1"}):
        assert "secret" not in repr(banhammer_actions({"report_central": settings}))
    piece = "hunter" + "2"  # A traceback shows this line.
    with pytest.raises(ConfigError) as caught:
        banhammer_actions({"report_central": {"stream": f"redis://:x@h:{piece}/0"}})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_without_redis_a_stream_is_a_mistake_that_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from banhammer.actions.builtin import banhammer_actions\n"
        "banhammer_actions({'report_central': {'stream': 'redis://h/0'}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert 'pip install "banhammer-limiter[redis]"' in done.stderr


def test_without_fcntl_the_actions_can_be_made_all_the_same() -> None:
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from banhammer.actions.builtin import banhammer_actions; print(sorted(banhammer_actions({})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout == f"{sorted(BUILT_IN)}\n"


def test_making_the_actions_touches_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with BanHammer([Policy("p", [Threshold(1, "1h", ban="1h", actions=list(BUILT_IN))])]) as hammer:
        assert hammer.hit("k", "p")
        assert hammer.drain(5)
    assert list(tmp_path.iterdir()) == []


def test_each_hammer_has_its_own_built_in_actions() -> None:
    one, other = banhammer_actions({}), banhammer_actions({})
    assert sorted(one) == sorted(BUILT_IN)
    assert all(one[name] is not other[name] for name in BUILT_IN)
