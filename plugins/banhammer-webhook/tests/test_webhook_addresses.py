"""Where a report may go: to public addresses only, unless private ones are allowed."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from banhammer_webhook import DeliveryError, Webhook
from banhammer_webhook.wire import is_public
from webhook_receiver import SECRET, Receiver, escalation, status

from banhammer import GiveUp

PRIVATE = [
    "127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd00::1",
    "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.215.14", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"]

connects: list[Any] = []
"""Every address that a test was about to connect to; the interpreter itself tells."""
watching = threading.Event()


def watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and watching.is_set():
        connects.append(args[1])
        if not args[1][0].startswith(("127.", "::ffff:127.")):
            raise ConnectionRefusedError("these tests talk to nobody outside")


sys.addaudithook(watch)


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    connects.clear()
    watching.set()
    yield
    watching.clear()


def literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_refused_before_anything_is_connected(address: str) -> None:
    webhook = Webhook.from_settings({"url": f"https://{literal(address)}/", "secret": SECRET})
    with pytest.raises(GiveUp, match="private address"):
        webhook.run(escalation())
    assert connects == []


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    table = {"url": "https://hooks.example/", "secret": SECRET}
    webhook = Webhook.from_settings(table, resolve=lambda host, port: [address])
    with pytest.raises(GiveUp, match=r"https://hooks\.example:443 is at a private address"):
        webhook.run(escalation())
    assert connects == []


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "0"])
def test_what_the_system_reads_as_loopback_is_refused(host: str) -> None:
    with pytest.raises(GiveUp, match="private address"):
        Webhook.from_settings({"url": f"https://{host}/", "secret": SECRET}).run(escalation())
    assert connects == []


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_told_from_a_private_one(address: str) -> None:
    assert is_public(address)


def test_of_several_addresses_only_the_public_ones_are_tried() -> None:
    answers = ["10.0.0.1", "8.8.8.8", "::1", "2606:4700:4700::1111", "127.0.0.1"]
    table = {"url": "https://hooks.example/", "secret": SECRET}
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        Webhook.from_settings(table, resolve=lambda host, port: answers).run(escalation())
    assert [address[:2] for address in connects] == [("8.8.8.8", 443), ("2606:4700:4700::1111", 443)]


def test_a_name_is_looked_up_once_and_what_was_judged_is_connected() -> None:
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    with Receiver(status(200)) as receiver:
        table = {"url": f"http://hooks.example:{receiver.port}/", "secret": SECRET, "allow_private": True}
        Webhook.from_settings(table, resolve=rebinding).run(escalation())
    assert asked == [("hooks.example", receiver.port)]
    assert connects == [("127.0.0.1", receiver.port)]
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with Receiver(status(200)) as receiver:
        table = {"url": f"http://hooks.example:{receiver.port}/", "secret": SECRET, "allow_private": True}
        answers = ["127.0.0.2", "127.0.0.2", "::ffff:127.0.0.1"]
        Webhook.from_settings(table, resolve=lambda host, port: answers).run(escalation())
    assert [address[0] for address in connects] == ["127.0.0.2", "::ffff:127.0.0.1"]


def test_a_full_backlog_costs_its_share_of_the_timeout() -> None:
    with Receiver(status(200)) as receiver, socket.socket() as full:
        full.bind(("127.0.0.2", receiver.port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.2", receiver.port))
        table = {"url": f"http://h:{receiver.port}/", "secret": SECRET, "allow_private": True, "timeout": "2s"}
        start = time.monotonic()
        Webhook.from_settings(table, resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"]).run(escalation())
        assert 0.9 < time.monotonic() - start < 2
        for sock in waiting:
            sock.close()


def test_a_resolver_that_hangs_costs_the_timeout() -> None:
    over = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        over.wait(10)
        return ["127.0.0.1"]

    table = {"url": "https://hooks.example/", "secret": SECRET, "timeout": "200ms"}
    start = time.monotonic()
    with pytest.raises(DeliveryError, match=r"no answer within 0\.2 s"):
        Webhook.from_settings(table, resolve=hang).run(escalation())
    assert time.monotonic() - start < 2
    over.set()


def unknown(host: str, port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("resolve", "what"),
    [
        (unknown, "gaierror"),
        (lambda host, port: [], "the name has no address"),
        (lambda host, port: ["hooks.example"], "does not appear to be"),
    ],
    ids=["unknown", "no address", "a name"],
)
def test_a_name_without_an_address_is_worth_another_try(resolve: Any, what: str) -> None:
    webhook = Webhook.from_settings({"url": "https://hooks.example/", "secret": SECRET}, resolve=resolve)
    with pytest.raises(DeliveryError, match=what):
        webhook.run(escalation())
    assert connects == []


def test_a_host_that_no_name_server_can_be_asked_for_is_an_error_of_delivery() -> None:
    webhook = Webhook.from_settings({"url": f"https://{'a' * 64}.example/", "secret": SECRET})
    with pytest.raises(DeliveryError, match="UnicodeError"):
        webhook.run(escalation())
