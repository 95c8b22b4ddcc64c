"""report_central over HTTP: what is sent, what each answer means, and that nothing of a key or a secret leaks."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from action_samples import escalation, hostile, plain, strict
from banhammer import BanHammer, BanhammerError, GiveUp, Policy, RetryAfter, Threshold
from banhammer.actions.report import ReportCentral
from endpoint import Endpoint
from servers.standalone import self_signed


def to(url: str) -> ReportCentral:
    return ReportCentral.from_settings({"url": url})


def test_an_escalation_is_posted_as_one_json_object() -> None:
    with Endpoint() as endpoint:
        to(f"{endpoint.url}?source=shop").run(escalation())
    (request,) = endpoint.requests
    assert (request.method, request.target) == ("POST", "/escalations?source=shop")
    assert strict(request.body.decode("ascii")) == plain(escalation())
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Content-Length"] == str(len(request.body))


def test_the_idempotency_key_is_the_same_on_every_redelivery_and_another_for_the_lift() -> None:
    with Endpoint() as endpoint:
        action = to(endpoint.url)
        action.run(escalation())
        action.run(escalation())
        action.lift(escalation(verdict="lifted"))
    keys = [request.headers["Idempotency-Key"] for request in endpoint.requests]
    assert keys == ["7f3a-banned", "7f3a-banned", "7f3a-lifted"]


def test_five_hundred_hostile_keys_and_ids_arrive_whole_and_add_no_header() -> None:
    samples = [escalation(id=each.key[:50] + each.id, key=each.key) for each in hostile()]
    with Endpoint() as endpoint:
        action = to(endpoint.url)
        for each in samples:
            action.run(each)
    assert [strict(request.body.decode("ascii")) for request in endpoint.requests] == [plain(each) for each in samples]
    for request in endpoint.requests:
        assert set(request.headers) == {
            "Host", "Accept-Encoding", "Content-Length", "Content-Type", "Idempotency-Key", "User-Agent",
        }  # fmt: skip
        assert re.fullmatch(r"[\w.~%-]+", request.headers["Idempotency-Key"], re.ASCII)
    assert len({request.headers["Idempotency-Key"] for request in endpoint.requests}) == len(samples)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_an_acceptance(status: int) -> None:
    with Endpoint((status, {})) as endpoint:
        to(endpoint.url).run(escalation())
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_a_4xx_that_would_come_again_gives_up(status: int) -> None:
    with Endpoint((status, {"Retry-After": "5"})) as endpoint, pytest.raises(GiveUp, match=f"answered {status}"):
        to(endpoint.url).run(escalation())


def test_no_error_shows_what_in_a_url_may_be_a_token() -> None:
    with Endpoint((403, {})) as endpoint, pytest.raises(GiveUp) as refused:
        to(f"{endpoint.url}/T0/sesame?key=sesame").run(escalation())
    with pytest.raises(BanhammerError) as silent:
        to(f"{endpoint.url}/T0/sesame?key=sesame").run(escalation())
    origin = endpoint.url.removesuffix("/escalations")
    assert str(refused.value) == f"{origin} answered 403"
    assert str(silent.value).startswith(f"{origin}: ConnectionRefusedError(")
    assert "sesame" not in str(silent.value) + repr(to(f"{endpoint.url}/T0/sesame"))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_go_better_next_time_is_an_error_to_try_again(status: int) -> None:
    with Endpoint((status, {})) as endpoint, pytest.raises(BanhammerError, match=f"answered {status}") as caught:
        to(endpoint.url).run(escalation())
    assert type(caught.value) is BanhammerError
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("status", "header", "seconds"), [(429, "7", 7.0), (503, " 0 ", 0.0), (503, "999999999", 86_400.0)]
)
def test_an_endpoint_that_says_when_is_asked_again_then(status: int, header: str, seconds: float) -> None:
    with Endpoint((status, {"Retry-After": header})) as endpoint, pytest.raises(RetryAfter) as caught:
        to(endpoint.url).run(escalation())
    assert caught.value.seconds == seconds


@pytest.mark.parametrize("header", ["-1", "1.5", "soon", "9" * 5000, "\u0661", "Fri, 31 Dec 1999 23:59:59 GMT", ""])
def test_a_wait_that_is_no_number_of_seconds_is_left_to_the_worker(header: str) -> None:
    header = header.encode("utf-8").decode("latin-1")
    with Endpoint((503, {"Retry-After": header})) as endpoint, pytest.raises(BanhammerError) as caught:
        to(endpoint.url).run(escalation())
    assert type(caught.value) is BanhammerError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        Endpoint() as elsewhere,
        Endpoint((status, {"Location": elsewhere.url})) as endpoint,
        pytest.raises(GiveUp, match="redirects are not followed"),
    ):
        to(endpoint.url).run(escalation())
    assert elsewhere.requests == []
    assert len(endpoint.requests) == 1


def test_a_proxy_of_the_environment_is_not_used(monkeypatch) -> None:
    with Endpoint() as proxy, Endpoint() as endpoint:
        monkeypatch.setenv("http_proxy", proxy.url)
        to(endpoint.url).run(escalation())
    assert (len(proxy.requests), len(endpoint.requests)) == (0, 1)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/x?token=secret"


def test_an_endpoint_that_is_not_there_is_an_error_without_the_secret(listener: socket.socket) -> None:
    url = url_of(listener)
    listener.close()
    with pytest.raises(BanhammerError, match="Connection refused") as caught:
        to(url).run(escalation())
    assert "secret" not in str(caught.value)


def test_an_endpoint_that_never_answers_is_given_a_bounded_time(listener: socket.socket, monkeypatch) -> None:
    monkeypatch.setattr("banhammer.actions.endpoint.TIMEOUT", 0.05)
    with pytest.raises(BanhammerError, match="timed out"):
        to(url_of(listener)).run(escalation())


@pytest.mark.parametrize("answer", [b"", b"\r\n", b"SSH-2.0-x\x1b[31m\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff" * 100_000])
def test_an_answer_that_is_no_http_is_an_error_on_one_printable_line(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(1 << 16):
                pass
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(BanhammerError) as caught:
        to(url_of(listener)).run(escalation())
    thread.join()
    assert str(caught.value).isprintable()


def test_https_is_checked(tmp_path: Path, monkeypatch) -> None:
    certificate = self_signed(tmp_path)
    with Endpoint(certificate=certificate) as endpoint:
        with pytest.raises(BanhammerError, match="certificate verify failed"):
            to(endpoint.url).run(escalation())
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        to(endpoint.url).run(escalation())
    assert len(endpoint.requests) == 1


def test_without_settings_it_says_once_that_it_is_not_configured(caplog) -> None:
    action = ReportCentral.from_settings({})
    with caplog.at_level(logging.WARNING, "banhammer"):
        for _ in range(3):
            action.run(escalation())
        action.lift(escalation(verdict="lifted"))
    (record,) = caplog.records
    assert record.getMessage() == (
        "report_central is not configured, so nothing is reported; set its url, or its stream"
    )


def test_a_hammer_reports_its_bans_and_lifts() -> None:
    policy = Policy("p", [Threshold(1, "1h", ban="1h", actions=["report_central"])])
    with Endpoint() as endpoint, BanHammer([policy], actions={"report_central": to(endpoint.url)}) as hammer:
        hammer.hit("k", "p")
        hammer.hit("k", "p")
        hammer.unban("k", "p")
        assert hammer.drain(5)
    assert [strict(each.body.decode())["verdict"] for each in endpoint.requests] == ["banned", "lifted"]
