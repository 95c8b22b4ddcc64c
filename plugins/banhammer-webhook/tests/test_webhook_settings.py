"""The table `[actions.webhook]`: its mistakes, and that no secret in it is ever shown."""

from __future__ import annotations

import logging
import re
import tomllib
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import banhammer_webhook
import pytest
from banhammer_webhook import DeliveryError, Webhook, banhammer_actions
from banhammer_webhook.settings import read
from webhook_receiver import Receiver, escalation, reset, status

from banhammer import BanHammer, BanhammerError, ConfigError, GiveUp, Policy, RetryAfter, Threshold

HIDDEN = "hunter2"
GOOD: dict[str, Any] = {"url": "https://hooks.example/bans", "secret": "s3cret"}
ROOT = Path(__file__).parent.parent


def mistakes(**changes: Any) -> list[str]:
    table = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        read(table)
    return list(caught.value.mistakes)


def test_what_is_left_out_has_a_safe_default() -> None:
    settings = read(GOOD)
    assert (settings.secure, settings.port, settings.timeout, settings.allow_private) == (True, 443, 5.0, False)
    assert Webhook(settings).deadline == 6.0


def test_every_mistake_is_told_at_once() -> None:
    found = mistakes(url="ftp://x", secret="", timeout="soon", allow_private=1, headers={"A": "\n"}, timeuot=1)
    assert [mistake.partition(":")[0] for mistake in found] == [
        "timeuot", "allow_private", "url", "secret", "timeout", "headers.A",
    ]  # fmt: skip
    assert "did you mean 'timeout'?" in found[0]


@pytest.mark.parametrize(
    "url",
    [
        None, "", 5, [], "hooks.example", "ftp://hooks.example/", "https://", "https:///bans", "https://:443/", "https://[::1/",
        "https://h:0/", "https://h:65536/", "https://h:x/", "https://h/a b", "https://h/\r\nX: 1", "https://h/é", "https://h/\0",
        "http://hooks.example/", "https://me:pw@hooks.example/", "https://me@hooks.example/", "javascript:1",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_meant_is_a_mistake(url: object) -> None:
    (mistake,) = mistakes(url=url)
    assert mistake.startswith("url: ")
    assert "; " in mistake


def test_plain_http_is_for_a_network_of_your_own() -> None:
    assert "allow_private = true" in mistakes(url="http://hooks.example/")[0]
    assert not read({**GOOD, "url": "http://[::1]:8080", "allow_private": True}).secure


@pytest.mark.parametrize("timeout", ["soon", 0, -1, "", None, True, float("inf"), "forever", "301s", []])
def test_a_timeout_is_a_duration_of_at_most_five_minutes(timeout: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**GOOD, "timeout": timeout})
    assert len(caught.value.mistakes) == 1
    assert str(caught.value).startswith("timeout: ")


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "\0", "é", "", " a", "a ", 5, None, ["a"], "\x7f"])
def test_a_headers_value_is_one_line_of_ascii(value: object) -> None:
    assert mistakes(headers={"X-Token": value})[0].startswith("headers.X-Token: '***'; ")


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é", 5, "\0"])
def test_a_headers_name_is_a_token(name: object) -> None:
    assert mistakes(headers={name: "x"})[0].startswith("headers: '***'; ")


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Content-Type", "Transfer-Encoding", "Connection", "Idempotency-Key", "banhammer-x"],
)
def test_a_header_of_banhammers_own_cannot_be_replaced(name: str) -> None:
    assert "banhammer writes this header itself" in mistakes(headers={name: "x"})[0]


@pytest.mark.parametrize("headers", ["X: 1", [], 5])
def test_headers_are_a_table(headers: object) -> None:
    assert mistakes(headers=headers)[0].startswith("headers: ")


@pytest.mark.parametrize("secret", ["", 5, [], [""], ["a", 5], {}, True])
def test_a_secret_is_a_text_or_several(secret: object) -> None:
    assert mistakes(secret=secret) == ["secret: '***'; write a text, or a list of texts while it changes"]


def test_without_a_secret_nothing_can_be_signed() -> None:
    assert mistakes(secret=None)[0].startswith("secret: missing; ")


def test_a_variable_that_is_not_set_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)
    assert mistakes(secret=None, secret_env=["EMPTY", "ABSENT"])[0].startswith("secret_env: EMPTY, ABSENT; ")


@pytest.mark.parametrize(
    "table",
    [
        {"url": f"https://me:{HIDDEN}@h/"},
        {"url": f"https://{HIDDEN}@h:x/"},
        {"url": f"https://me:{HIDDEN}/x@h/"},
        {"url": f"ftp://{HIDDEN}/x@h/"},
        {"url": f"https://h/{HIDDEN} x"},
        {"url": f"http://h/{HIDDEN}"},
        {"url": f"http://h/?token={HIDDEN}"},
        {"url": HIDDEN},
        {"secret": [HIDDEN, 5]},
        {"secret": {"a": HIDDEN}},
        {"secret_env": HIDDEN},
        {"headers": {"A": f"{HIDDEN}\n"}},
        {"headers": {f"A: {HIDDEN}": "x"}},
        {"headers": {"Host": HIDDEN}},
        {"headers": f"A: {HIDDEN}"},
    ],
)
def test_a_mistake_shows_no_secret(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**GOOD, **table})
    assert HIDDEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (status(404), GiveUp),
        (status(503, "Retry-After: 1"), RetryAfter),
        (status(500), DeliveryError),
        (reset, DeliveryError),
    ],
)
def test_a_failure_shows_no_secret(answer: Any, kind: type[BanhammerError], caplog: pytest.LogCaptureFixture) -> None:
    with Receiver(answer) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/{HIDDEN}?token={HIDDEN}"
        webhook = receiver.webhook(url=url, secret=HIDDEN, headers={"Authorization": HIDDEN})
        with caplog.at_level(logging.DEBUG), pytest.raises(kind) as caught:
            webhook.run(escalation())
        logging.getLogger("banhammer").exception("%r", webhook, exc_info=caught.value)
    assert f"127.0.0.1:{receiver.port}" in caplog.text
    assert HIDDEN not in caplog.text + repr(webhook) + str(webhook) + repr(read({**GOOD, "secret": HIDDEN}))


def test_a_secret_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", HIDDEN)
    settings = read({"url": GOOD["url"], "secret_env": "HOOK_SECRET"})
    assert settings.secrets == (HIDDEN,)
    assert HIDDEN not in repr(settings)


def test_the_plugin_gives_the_action_where_it_is_configured() -> None:
    assert set(banhammer_actions({"webhook": GOOD})) == {"webhook"}
    assert banhammer_actions({"other": {}}) == {}


def test_the_package_names_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["banhammer"] == {"webhook": banhammer_webhook.__name__}
    installed = [point.value for point in entry_points(group="banhammer", name="webhook")]
    assert installed in ([], ["banhammer_webhook"])


def test_a_ban_and_its_lifting_reach_the_receiver() -> None:
    with Receiver(status(200)) as receiver:
        policy = Policy("login", [Threshold(1, "1h", ban="1h", actions=["webhook"])])
        with BanHammer([policy], actions={"webhook": receiver.webhook()}) as hammer:
            hammer.hit("203.0.113.9", "login")
            hammer.hit("203.0.113.9", "login")
            hammer.unban("203.0.113.9", "login")
            assert hammer.drain(10)
    keys = [request.headers["Idempotency-Key"] for request in receiver.requests]
    ids = {key.rpartition("-")[0] for key in keys}
    assert [key.rpartition("-")[2] for key in keys] == ["banned", "lifted"]
    assert len(ids) == 1


def test_the_settings_of_the_readme_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    text = (ROOT / "README.md").read_text("utf-8")
    tables = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    assert tables
    for table in tables:
        assert repr(Webhook.from_settings(table["actions"]["webhook"])).startswith("Webhook('https://")


def test_the_readme_names_every_setting() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("url", "secret", "secret_env", "timeout", "allow_private", "headers"):
        assert f"| `{name}` |" in text
