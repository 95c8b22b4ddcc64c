"""What is sent, and what each answer of a real server means for the delivery."""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from email.utils import formatdate

import pytest
from banhammer_webhook import DeliveryError, verify
from banhammer_webhook.webhook import encode
from webhook_receiver import SECRET, Answer, Receiver, drip, escalation, raw, reset, silent, status

from banhammer import GiveUp, RetryAfter

OK = status(200)


@pytest.fixture
def tokyo() -> Iterator[None]:
    """Let local time be nine hours ahead of GMT."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def test_an_escalation_arrives_as_signed_json() -> None:
    with Receiver(OK) as receiver:
        receiver.webhook().run(escalation())
    (request,) = receiver.requests
    assert request.line == "POST /hooks HTTP/1.1"
    assert json.loads(request.body) == asdict(escalation())
    assert verify(SECRET, request.headers, request.body)
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "0f8fad5bd9cb469fa16570867728950e-banned"


def test_a_lift_is_posted_with_the_id_of_its_ban_and_a_key_of_its_own() -> None:
    with Receiver(OK) as receiver:
        receiver.webhook().lift(escalation(verdict="lifted", until=None))
    (request,) = receiver.requests
    sent = json.loads(request.body)
    assert (sent["id"], sent["verdict"], sent["until"]) == (escalation().id, "lifted", None)
    assert request.headers["Idempotency-Key"] == f"{escalation().id}-lifted"


def test_a_ban_for_ever_is_spelled_in_strict_json() -> None:
    with Receiver(OK) as receiver:
        receiver.webhook().run(escalation(until=math.inf))
    assert json.loads(receiver.requests[0].body)["until"] == "forever"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_json_does_not_know_is_never_sent(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(escalation(at=value))


def test_a_redelivery_has_the_same_body_and_idempotency_key() -> None:
    with Receiver(status(500)) as receiver:
        webhook = receiver.webhook()
        with pytest.raises(DeliveryError):
            webhook.run(escalation())
        receiver.answer = OK
        webhook.run(escalation())
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_the_path_the_query_and_the_headers_of_the_settings_are_sent() -> None:
    with Receiver(OK) as receiver:
        url = f"http://127.0.0.1:{receiver.port}?room=a%20b"
        receiver.webhook(url=url, headers={"authorization": "Bearer x y", "USER-AGENT": "me"}).run(escalation())
    (request,) = receiver.requests
    assert request.line == "POST /?room=a%20b HTTP/1.1"
    assert request.headers["Authorization"] == "Bearer x y"
    assert [name for name in request.names if name == "User-Agent"] == ["User-Agent"]
    assert request.headers["User-Agent"] == "me"


@pytest.mark.parametrize("answer", [OK, status(201), status(204), raw(b"HTTP/1.0 200\r\n\r\n")])
def test_a_2xx_is_a_delivery(answer: Answer) -> None:
    with Receiver(answer) as receiver:
        receiver.webhook().run(escalation())
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
def test_a_4xx_gives_up(code: int) -> None:
    with Receiver(status(code, "Retry-After: 5")) as receiver, pytest.raises(GiveUp, match=f"answered {code}$"):
        receiver.webhook().run(escalation())


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code: int) -> None:
    with (
        Receiver(OK) as other,
        Receiver(status(code, f"Location: http://127.0.0.1:{other.port}/")) as receiver,
        pytest.raises(GiveUp, match=f"answered {code}; redirects are not followed"),
    ):
        receiver.webhook().run(escalation())
    assert (receiver.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("code", [103, 429, 500, 502, 503, 599])
@pytest.mark.parametrize("header", ["X: 1", "Retry-After: 0", "Retry-After: soon", "Retry-After: -5", "Retry-After: "])
def test_a_passing_failure_is_worth_another_try(code: int, header: str) -> None:
    with Receiver(status(code, header)) as receiver, pytest.raises(DeliveryError, match=f"answered {code}$"):
        receiver.webhook().run(escalation())


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1", 1), ("120", 120), ("3600", 3600), ("3601", 3600), ("9" * 400, 3600), ("9" * 5000, 3600)],
)
def test_the_wait_that_a_receiver_asks_for_is_kept_up_to_an_hour(code: int, value: str, seconds: float) -> None:
    with Receiver(status(code, f"Retry-After: {value}")) as receiver, pytest.raises(RetryAfter) as caught:
        receiver.webhook().run(escalation())
    assert caught.value.seconds == seconds
    assert str(code) in str(caught.value)


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
@pytest.mark.parametrize(("ahead", "low", "high"), [(100, 80, 100), (86_400, 3600, 3600)])
@pytest.mark.usefixtures("tokyo")
def test_the_wait_may_be_a_date_in_any_form_of_http(form: str, ahead: float, low: float, high: float) -> None:
    date = time.strftime(form, time.gmtime(time.time() + ahead))
    with Receiver(status(503, f"Retry-After: {date}")) as receiver, pytest.raises(RetryAfter) as caught:
        receiver.webhook().run(escalation())
    assert low <= caught.value.seconds <= high


@pytest.mark.parametrize("date", [formatdate(0, usegmt=True), "Wed, 99 Foo 2026 10:00:00 GMT", "a, b c d e f"])
def test_a_date_that_is_past_or_none_asks_for_no_wait(date: str) -> None:
    with Receiver(status(503, f"Retry-After: {date}")) as receiver, pytest.raises(DeliveryError):
        receiver.webhook().run(escalation())


@pytest.mark.parametrize(
    "answer",
    [
        reset,
        raw(b""),
        raw(b"\x00\xff\r\n\r\n"),
        raw(b"SSH-2.0-nothing\r\n"),
        raw(b"HTTP/1.1 9\x1b[31m OK\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 30_000 + b"\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 20_000),
        raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000),
    ],
    ids=["reset", "closed", "binary", "no http", "control characters", "long header", "many headers", "continue"],
)
def test_no_answer_that_can_be_read_is_worth_another_try(answer: Answer) -> None:
    with Receiver(answer) as receiver, pytest.raises(DeliveryError) as caught:
        receiver.webhook().run(escalation())
    assert str(caught.value).isprintable()
    assert "\x1b" not in "".join(traceback.format_exception(caught.value))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("answer", "deaf"),
    [
        (silent, False),
        (OK, True),
        (drip(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"), False),
        (drip(b"HTTP/1.1 200 ", b"O"), False),
    ],
    ids=["silent", "deaf", "dripping headers", "dripping status"],
)
def test_the_timeout_bounds_the_whole_delivery(answer: Answer, deaf: bool) -> None:
    with Receiver(answer, deaf=deaf) as receiver:
        webhook = receiver.webhook(timeout="400ms")
        start = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no answer within 0\.4 s"):
            webhook.run(escalation(key="k" * 8_000_000 if deaf else "k"))
        assert 0.39 < time.monotonic() - start < 2


def test_a_receiver_that_reads_slowly_costs_the_timeout() -> None:
    with Receiver(OK, pace=0.05) as receiver:
        start = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no answer within 0\.4 s"):
            receiver.webhook(timeout="400ms").run(escalation(key="k" * 32_000_000))
        assert 0.39 < time.monotonic() - start < 2


def test_a_body_is_not_waited_for() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Receiver(drip(head, b"1\r\nx\r\n")) as receiver:
        receiver.webhook(timeout="1m").run(escalation())
    assert len(receiver.requests) == 1


def test_an_endless_body_is_not_read() -> None:
    sent = 0

    def flood(sock: socket.socket, over: threading.Event) -> None:
        nonlocal sent
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        while not over.is_set():
            sent += sock.send(b"x" * 65_536)

    with Receiver(flood) as receiver:
        receiver.webhook().run(escalation())
        receiver._threads[1].join(10)
        assert not receiver._threads[1].is_alive()
    assert sent < 64_000_000  # What fits into the buffers of two sockets at most.


def test_a_receiver_that_is_not_there_is_worth_another_try() -> None:
    with Receiver(OK) as receiver:
        webhook = receiver.webhook()
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        webhook.run(escalation())


def test_many_threads_share_one_webhook() -> None:
    with Receiver(OK) as receiver:
        webhook = receiver.webhook()
        threads = [threading.Thread(target=webhook.run, args=(escalation(id=f"id{i}"),)) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(r.headers["Idempotency-Key"] for r in receiver.requests) == sorted(f"id{i}-banned" for i in range(32))
    assert all(verify(SECRET, request.headers, request.body) for request in receiver.requests)


NASTY = [
    "a\r\nX-Injected: 1\r\n\r\n", "\0", '"},{"key":"', "\\", "\\u0000", "{}", "%0d%0a", "\u2028\u2029", "\ud800",
    "\udfff", "\udcff", "\ud83d\ude00", "\U0001f600", "\xe9", "e\u0301", "::ffff:1.2.3.4", "fe80::1%eth0", "</script>",
    "$(id)", "`id`", "' OR 1=1", "\x1b[31m", "\x7f", "\ufeff", "\U0010ffff", "\uff11", " ", "\n", "k" * 65_536,
    "\r\n" * 32_768, "\ud800" * 65_536,
]  # fmt: skip


def hostile_keys(count: int) -> list[str]:
    dice = random.Random(500)
    short = [piece for piece in NASTY if len(piece) < 100]
    while len(short) < 200:
        short.append(chr(dice.randrange(0x110000)))
    return [*NASTY, *("".join(dice.choices(short, k=dice.randint(1, 12))) for _ in range(count - len(NASTY)))]


def same(text: str) -> bytes:
    """Return what JSON can tell of a text: two halves of a character, side by side, are that character."""
    return text.encode("utf-16-le", "surrogatepass")


def test_500_hostile_keys_leave_body_and_headers_intact() -> None:
    keys = hostile_keys(500)
    plain = escalation()
    with Receiver(OK) as receiver:
        webhook = receiver.webhook()
        webhook.run(plain)
        for key in keys:
            webhook.run(escalation(key=key, reason=key, id=key[:100]))
    first, *requests = receiver.requests
    assert len(requests) == 500
    for key, request in zip(keys, requests, strict=True):
        assert request.body.isascii()
        sent = json.loads(request.body, parse_constant=pytest.fail)
        assert same(sent["key"]) == same(sent["reason"]) == same(key)
        assert {**sent, "key": 0, "reason": 0, "id": 0} == {**asdict(plain), "key": 0, "reason": 0, "id": 0}
        assert (request.line, request.names) == (first.line, first.names)
        assert verify(SECRET, request.headers, request.body)
