"""HTTPS with a certificate that `openssl` makes for the test."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from banhammer_webhook import DeliveryError, Webhook, verify
from webhook_receiver import SECRET, Receiver, escalation, silent, status


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a certificate for hooks.example, with its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def webhook(port: int, host: str = "hooks.example", timeout: str = "5s") -> Webhook:
    table = {"url": f"https://{host}:{port}/", "secret": SECRET, "allow_private": True, "timeout": timeout}
    return Webhook.from_settings(table, resolve=lambda host, port: ["127.0.0.1"])


def test_a_report_goes_over_tls_to_a_receiver_that_proves_its_name(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Receiver(status(200), tls=tls) as receiver:
        webhook(receiver.port).run(escalation(key="k" * 200_000))
    (request,) = receiver.requests
    assert verify(SECRET, request.headers, request.body)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls: ssl.SSLContext) -> None:
    with (
        Receiver(status(200), tls=tls) as receiver,
        pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        webhook(receiver.port).run(escalation())
    assert (receiver.connections, receiver.requests) == (1, [])


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_of_another_name_is_not_trusted(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        Receiver(status(200), tls=tls) as receiver,
        pytest.raises(DeliveryError, match=r"(?i)not valid for|mismatch"),
    ):
        webhook(receiver.port, host).run(escalation())
    assert (receiver.connections, receiver.requests) == (1, [])


def test_a_receiver_without_tls_is_not_spoken_to_in_the_clear() -> None:
    with Receiver(status(200)) as receiver, pytest.raises(DeliveryError):
        webhook(receiver.port, timeout="300ms").run(escalation())
    assert receiver.requests == []


@pytest.mark.parametrize("deaf", [True, False], ids=["no handshake", "no answer"])
def test_silence_over_tls_costs_the_timeout(
    certificate: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Receiver(silent, tls=tls, deaf=deaf) as receiver:
        start = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no answer within 0\.4 s"):
            webhook(receiver.port, timeout="400ms").run(escalation())
        assert 0.39 < time.monotonic() - start < 2
