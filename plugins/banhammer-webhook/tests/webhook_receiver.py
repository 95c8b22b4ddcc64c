"""A receiver on loopback that notes each request byte for byte, and answers as it is told, however badly."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from banhammer_webhook import Webhook

from banhammer import Escalation

SECRET = "a secret that only two know"
Answer = Callable[[socket.socket, threading.Event], None]
"""Answers one request over its socket; the event says that the test is over."""


@dataclass(frozen=True)
class Request:
    line: str
    names: list[str]
    headers: dict[str, str]
    body: bytes


def status(code: int, *headers: str, body: bytes = b"") -> Answer:
    head = "\r\n".join([f"HTTP/1.1 {code} Said", f"Content-Length: {len(body)}", *headers]) + "\r\n\r\n"
    return raw(head.encode() + body)


def raw(answer: bytes) -> Answer:
    return lambda sock, over: sock.sendall(answer)


def silent(sock: socket.socket, over: threading.Event) -> None:
    over.wait()


def drip(start: bytes, piece: bytes) -> Answer:
    """Send `start` at once, and then `piece` every 20 ms until nobody listens."""

    def answer(sock: socket.socket, over: threading.Event) -> None:
        sock.sendall(start)
        while not over.wait(0.02):
            sock.sendall(piece)

    return answer


def reset(sock: socket.socket, over: threading.Event) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Receiver:
    """Listens on loopback in threads of its own; with `tls` it speaks HTTPS.

    A `deaf` one reads nothing; one with a `pace` reads a piece each so many seconds, and answers nothing.
    """

    def __init__(
        self, answer: Answer, *, tls: ssl.SSLContext | None = None, deaf: bool = False, pace: float = 0
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._deaf = deaf
        self._pace = pace
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Receiver:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def webhook(self, **settings: Any) -> Webhook:
        table = {"url": f"http://127.0.0.1:{self.port}/hooks", "secret": SECRET, "allow_private": True, "timeout": "5s"}
        return Webhook.from_settings({**table, **settings})

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                sock, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.settimeout(10)
            if self._deaf:
                self._over.wait()
                return
            while self._pace and not self._over.wait(self._pace):
                sock.recv(500_000)
            with self._tls.wrap_socket(sock, server_side=True) if self._tls else sock as stream:
                self.requests.append(_read(stream))
                self.answer(stream, self._over)


def _read(sock: socket.socket) -> Request:
    with sock.makefile("rb") as stream:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = stream.readline()
            if not received:
                raise ConnectionError("the request was cut short")
            head += received
        line, *fields = head.decode("ascii").split("\r\n")[:-2]
        pairs = [field.split(": ", 1) for field in fields]
        headers = dict(pairs)
        body = stream.read(int(headers["Content-Length"]))
    return Request(line, [name for name, _ in pairs], headers, body)


def escalation(**changes: Any) -> Escalation:
    """Return a ban of an hour; `changes` are its fields that differ."""
    fields: dict[str, Any] = {
        "id": "0f8fad5bd9cb469fa16570867728950e",
        "key": "203.0.113.9",
        "policy": "login_failed",
        "threshold": 0,
        "verdict": "banned",
        "strikes": 1,
        "at": 1_750_000_000.25,
        "until": 1_750_003_600.25,
        "limit": 10,
        "period": 3600.0,
        "cost": 1,
        "reason": "over 10 per 1h",
        "shadow": False,
        "origin": "hit",
    }
    return Escalation(**{**fields, **changes})
