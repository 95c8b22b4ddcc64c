"""Signatures: what `verify` believes, and that its example in the README is right."""

from __future__ import annotations

import hashlib
import hmac
import re
import subprocess
import sys
import time
import urllib.request
from email.message import Message
from pathlib import Path

import pytest
from banhammer_webhook import Webhook, verify
from banhammer_webhook.signing import sign
from webhook_receiver import SECRET, Receiver, escalation, status

BODY = b'{"key":"203.0.113.9"}'
NOW = 1_750_000_000
README = Path(__file__).parent.parent / "README.md"


def signed(secret: str = SECRET, at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    return {"Banhammer-Timestamp": str(at), "Banhammer-Signature": sign(secret, str(at), body)}


def test_the_signature_is_the_hmac_of_timestamp_dot_body() -> None:
    expected = hmac.new(SECRET.encode(), f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert signed()["Banhammer-Signature"] == f"v1={expected}"


@pytest.mark.parametrize("late", [-300, -1, 0, 1, 300])
def test_what_was_signed_just_now_is_believed(late: float) -> None:
    assert verify(SECRET, signed(), BODY, now=NOW + late)


@pytest.mark.parametrize("late", [-301, 301, 86_400])
def test_what_is_stale_or_of_the_future_is_not_believed(late: float) -> None:
    assert not verify(SECRET, signed(), BODY, now=NOW + late)
    assert verify(SECRET, signed(), BODY, now=NOW + late, tolerance=abs(late))


def test_the_clock_of_the_machine_is_asked_by_default() -> None:
    assert verify(SECRET, signed(at=int(time.time())), BODY)
    assert not verify(SECRET, signed(), BODY)


def test_another_secret_body_or_time_is_not_believed() -> None:
    assert not verify("another secret", signed(), BODY, now=NOW)
    assert not verify(SECRET, signed(), BODY + b" ", now=NOW)
    assert not verify(SECRET, {**signed(), "Banhammer-Timestamp": str(NOW + 1)}, BODY, now=NOW)


@pytest.mark.parametrize("name", ["Banhammer-Timestamp", "Banhammer-Signature"])
@pytest.mark.parametrize(
    "value", [None, "", "v1=", "v0=00", ",", "-1", "1e9", "\xe9", "\ud800", "\u0661" * 10, "9" * 5000, "\0"]
)
def test_nonsense_is_not_believed_and_raises_nothing(name: str, value: str | None) -> None:
    headers = signed()
    headers.pop(name)
    assert not verify(SECRET, headers if value is None else {**headers, name: value}, BODY, now=NOW)


def test_the_version_of_a_signature_is_part_of_it() -> None:
    headers = signed()
    headers["Banhammer-Signature"] = headers["Banhammer-Signature"].replace("v1=", "v2=")
    assert not verify(SECRET, headers, BODY, now=NOW)


def test_headers_are_found_in_any_case_and_in_any_kind_of_mapping() -> None:
    message = Message()
    for name, value in signed().items():
        message[name.upper()] = value
    assert verify(SECRET, {name.lower(): value for name, value in signed().items()}, BODY, now=NOW)
    assert verify(SECRET, message, BODY, now=NOW)


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="anybody can sign"):
        verify("", signed(), BODY, now=NOW)


def test_while_secrets_rotate_each_receiver_finds_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "third")
    with Receiver(status(200)) as receiver:
        receiver.webhook(secret=["first", "second"], secret_env="HOOK_SECRET").run(escalation())
    (request,) = receiver.requests
    believed = [verify(s, request.headers, request.body) for s in ("first", "second", "third", "fourth")]
    assert believed == [True, True, True, False]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_receiver_of_the_readme_believes_us_and_nobody_else(tmp_path: Path) -> None:
    (source,) = (block for block in blocks("python") if "HTTPServer" in block)
    script = tmp_path / "receiver.py"
    script.write_text(source.replace('("127.0.0.1", 8080)', '("127.0.0.1", 0)'), "utf-8")
    code = f"import runpy, sys; sys.path[:0] = {sys.path!r}; runpy.run_path({str(script)!r}, run_name='__main__')"
    env = {"HOOK_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout
            port = int(process.stdout.readline().rsplit(":", 1)[1])
            url = f"http://127.0.0.1:{port}/"
            table = {"url": url, "secret": SECRET, "allow_private": True}
            webhook = Webhook.from_settings(table)
            webhook.run(escalation())
            webhook.run(escalation())
            webhook.lift(escalation(verdict="lifted"))
            assert process.stdout.readline() == "banned: '203.0.113.9'\n"
            assert process.stdout.readline() == "lifted: '203.0.113.9'\n"
            with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                urllib.request.urlopen(urllib.request.Request(url, BODY, signed("wrong", int(time.time()))), timeout=5)
            refused.value.close()
        finally:
            process.terminate()
