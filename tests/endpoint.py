"""A real HTTP endpoint on loopback that keeps what it got and answers what a test wants."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Endpoint:
    """Answers each request with the next of `answers`, a status and headers, then with 204; `url` leads to it."""

    def __init__(self, *answers: tuple[int, dict[str, str]], certificate: tuple[str, str] | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append(Request(self.command, self.path, dict(self.headers.items()), body))
                status, headers = endpoint.answers.pop(0) if endpoint.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # A client that hangs up.
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}/escalations"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
