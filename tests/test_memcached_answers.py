"""What is no answer of Memcached: it costs a caller no more than the deadline, and is never taken for one."""

from __future__ import annotations

import time

import pytest

from banhammer import Policy, Threshold
from memcached_sides import MemcachedSide
from servers.babbler import Babbler
from servers.ports import HOST

pytest_plugins = ("memcached_fixtures",)

DEADLINE = 0.1
SLACK = 1.0
"""What a busy machine may add."""
RULES = [Policy("p", [Threshold(100, "1h")], on_error="closed")]
VALUE = b"VALUE bh:p:key 0 3 1\r\nabc\r\nEND\r\n"
ANSWERS = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400 Bad Request"),
    "Redis": (b"-ERR unknown command 'gets'\r\n", "-ERR unknown command"),
    "ERROR": (b"ERROR\r\n", "refused: ERROR"),
    "CLIENT_ERROR": (b"CLIENT_ERROR line too long\r\n", "CLIENT_ERROR line too long"),
    "SERVER_ERROR": (b"SERVER_ERROR out of memory writing get response\r\n", "out of memory"),
    "a line of control characters": (b"\x1b[2J\nstore is back\r\n", r"refused: \x1b[2J\nstore is back"),
    "no line": (bytes(1_000), "did not answer in time"),
    "half a value": (VALUE[:30], "did not answer in time"),
    "a value without its end": (VALUE.replace(b"abc", b"abcdef"), r"refused: def\r\n"),
    "a length of 5,000 digits": (VALUE.replace(b"3", b"9" * 5_000), "refused: VALUE bh:p:key 0 999"),
    "two answers": (VALUE * 2, f"{len(VALUE)} bytes more than was asked for"),
}


@pytest.mark.parametrize(("words", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_what_is_no_answer_is_an_error_of_the_store(
    kind: str, words: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Babbler(words) as server:
        told(kind, server)
    (line,) = caplog.messages
    assert line.isprintable()
    assert reason in line


def test_an_answer_without_an_end_holds_nobody_beyond_the_deadline(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with Babbler(b"x" * 100, endless=True) as server:
        told(kind, server)
    assert "did not answer in time" in caplog.text


def told(kind: str, server: Babbler) -> None:
    """Hit often enough that a breaker opens: each is denied without the store, in time."""
    url = f"memcached://{HOST}:{server.port}"
    with MemcachedSide(kind, url, RULES, deadline=f"{DEADLINE}s") as side:
        for _ in range(5):
            began = time.monotonic()
            decision = side.hit("key", "p")
            assert time.monotonic() - began < DEADLINE + SLACK
            assert (decision.verdict, decision.degraded) == ("throttled", True)
