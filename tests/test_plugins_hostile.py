"""A plugin whose actions, errors or tables are wrong stops no hammer."""

from __future__ import annotations

from typing import Any

import pytest

from banhammer import BanHammer, ConfigError, Policy, Threshold
from plugged import Install, ran, warnings_of

pytest_plugins = ("plugin_fixtures",)

RULES = [Policy("api", [Threshold(5, "1m")])]
HOSTILE = [
    ("terms", "class Ping:\n    attempts = 0\n    def run(self, _): pass", "has attempts: 0; write an integer"),
    (
        "a property",
        "class Ping:\n    @property\n    def run(self): raise OSError('sealed')",
        "cannot be looked at: OSError: sealed",
    ),
]


@pytest.mark.parametrize(("body", "problem"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_an_action_that_cannot_be_used_is_left_out_and_stops_no_hammer(
    install: Install, caplog: pytest.LogCaptureFixture, body: str, problem: str
) -> None:
    install("hostile", f"{body}\n@hookimpl\ndef banhammer_actions(): return {{'ping': Ping()}}\n")
    with BanHammer(RULES) as hammer:
        assert hammer.hit("k", "api")
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"plugin hostile: its action 'ping' {problem}")


def test_an_error_that_cannot_be_shown_stops_no_hammer(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    error = "class E(Exception):\n    def __str__(self): raise RuntimeError\n"
    install("loads_badly", f"{error}raise E\n")
    install("answers_badly", f"{error}@hookimpl\ndef banhammer_actions(): raise E\n")
    with BanHammer(RULES) as hammer:
        assert hammer.hit("k", "api")
    assert [each.count("E: an error that has no text") for each in warnings_of(caplog)] == [1, 1]


def test_what_a_plugin_does_to_a_table_reaches_nobody_else(install: Install) -> None:
    body = "    for table in settings.values():\n        table['names'].clear()\n        table.clear()\n"
    install("careless", f"@hookimpl\ndef banhammer_actions(settings):\n{body}    return {{}}\n")
    seen = "    seen.extend(repr(each) for each in settings.values())\n"
    install("reader", f"@hookimpl\ndef banhammer_actions(settings):\n{seen}    return {{'ping': print}}\n")
    settings = {"ping": {"names": ["a"]}}
    with BanHammer(RULES, action_settings=settings):
        assert ran("reader") == ["{'names': ['a']}"]
    assert settings == {"ping": {"names": ["a"]}}


@pytest.mark.parametrize("settings", [5, [{}], {"block_local": "sesame"}, {"block_local": ["sesame"]}, {5: {}}])
def test_settings_that_are_no_tables_are_a_config_error(settings: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        BanHammer(RULES, action_settings=settings)
    assert "sesame" not in str(caught.value)
    assert caught.value.mistakes[0].startswith(("action_settings: give", "actions.block_local: give"))
