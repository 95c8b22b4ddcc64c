"""Plugins are found among what is installed; one that is wrong is reported once and left out, and harms nobody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from acting import PATIENCE
from banhammer import BanHammer, ConfigError, plugins
from plugged import GIVES, Install, found, others, ran, trap, warnings_of

pytest_plugins = ("plugin_fixtures",)


def test_an_installed_plugin_gives_its_actions_when_a_hammer_is_built_and_not_before(install: Install) -> None:
    install("pinger", GIVES)
    assert "plug_pinger" not in sys.modules
    with BanHammer([trap("ping")]) as hammer:
        hammer.hit("k", "trap")
        assert hammer.drain(PATIENCE)
    assert [each.key for each in ran("pinger")] == ["k"]
    told = found("pinger")
    assert (told.distribution, told.version, told.hooks) == ("pinger", "1.2", ("banhammer_actions",))


def test_a_class_an_object_or_a_module_may_be_a_plugin(install: Install) -> None:
    code = """
    class Plugin:
        @hookimpl
        def banhammer_actions(self, settings):
            return {"ping": print}

    plugin = Plugin()
    """
    site = install("pinger", code)
    (site / "pinger-1.2.dist-info" / "entry_points.txt").write_text("[banhammer]\npinger = plug_pinger:plugin\n")
    assert plugins.loaded().make({})[0]["ping"] is print


WRONG = [
    ("fails to import", "1 / 0", "it does not load: ZeroDivisionError: division by zero"),
    ("exits", "raise SystemExit('bye\\nINFO forged')", "it does not load: SystemExit: bye\\nINFO forged"),
    ("lacks what it imports", "import no_such_module", "it does not load: ModuleNotFoundError: No module named"),
    ("is no python", "def (:", "it does not load: SyntaxError: "),
    ("hook of another name", "@hookimpl\ndef banhammer_action(): return {}", "its hooks are not valid: unknown hook"),
    (
        "hook of other arguments",
        "@hookimpl\ndef banhammer_actions(options): return {}",
        "its hooks are not valid: Plugin 'plug_wrong' for hook 'banhammer_actions'",
    ),
    ("no hook", "pass", "it has no hook of banhammer"),
    ("forgot the marker", "def banhammer_actions(): return {}", "it has no hook of banhammer"),
]


@pytest.mark.parametrize(("code", "problem"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_plugin_that_cannot_be_used_is_reported_once_and_left_out(
    install: Install, caplog: pytest.LogCaptureFixture, code: str, problem: str
) -> None:
    install("wrong", code)
    install("pinger", GIVES)
    for _ in range(3):
        with BanHammer([trap("ping")]) as hammer:
            assert not hammer.hit("k", "trap")
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"plugin wrong: {problem}")
    assert warning.endswith("; it is left out")
    assert warning.isprintable()
    assert (found("wrong").problem or "").startswith(problem.replace("\\n", "\n"))
    assert found("wrong").hooks == ()
    with pytest.raises(ConfigError, match=r"unknown action 'pong', .*; did you mean 'ping'"):
        BanHammer([trap("pong")])


ANSWERS = [
    ("no mapping", "return ['ping']", "its banhammer_actions gave a list; it must give a mapping by name"),
    ("nothing", "return None", "its banhammer_actions gave None; it must give a mapping by name"),
    ("no names", "return {1: print}", "its banhammer_actions gave a dict; it must give a mapping by name"),
    ("an error", "raise OSError('no\\x1b')", "its banhammer_actions failed: OSError: no\\x1b"),
    ("an exit", "raise SystemExit(3)", "its banhammer_actions failed: SystemExit: 3"),
    (
        "no action",
        "return {'ping': {'token': 'sesame'}}",
        "its action 'ping' is a dict, neither a callable nor an object with run",
    ),
]


@pytest.mark.parametrize(("body", "problem"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS])
def test_what_a_plugin_cannot_mean_is_reported_once_and_left_out(
    install: Install, caplog: pytest.LogCaptureFixture, body: str, problem: str
) -> None:
    install("wrong", f"@hookimpl\ndef banhammer_actions():\n    {body}\n")
    for _ in range(2):
        assert others.issuperset(plugins.loaded().make({})[0])
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"plugin wrong: {problem}; ")
    assert "sesame" not in warning


def test_one_wrong_action_leaves_its_neighbours_in(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("half", "@hookimpl\ndef banhammer_actions():\n    return {'ping': print, 'pong': 5}\n")
    actions = plugins.loaded().make({})[0]
    assert ("ping" in actions, "pong" in actions) == (True, False)
    assert warnings_of(caplog) == [
        "plugin half: its action 'pong' is a int, neither a callable nor an object with run; that one is left out"
    ]


def test_of_two_plugins_with_one_name_the_first_is_taken(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("pinger", GIVES, entry="ping")
    install("other", GIVES, entry="ping")
    names = [plugin.distribution for plugin in plugins.loaded().all if plugin.name == "ping" and not plugin.problem]
    (warning,) = warnings_of(caplog)
    (first,) = names
    assert warning == f"plugin ping: {first} has a plugin of this name already; it is left out"


def test_of_two_actions_with_one_name_the_first_is_taken(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("one", GIVES)
    install("two", GIVES)
    install("greedy", "@hookimpl\ndef banhammer_actions():\n    return {'block_local': print}\n")
    actions = plugins.loaded().make({})[0]
    assert actions["block_local"] is not print
    assert actions["ping"].__self__ in (ran("one"), ran("two"))
    first, second = ("one", "two") if actions["ping"].__self__ is ran("one") else ("two", "one")
    assert sorted(warnings_of(caplog)) == sorted(
        [
            f"plugin {second}: its action 'ping' is one of {first} too; that one is left out",
            "plugin greedy: its action 'block_local' is one of banhammer.actions too; that one is left out",
        ]
    )


def test_what_an_application_gives_comes_before_a_plugins(install: Install) -> None:
    install("pinger", GIVES)
    mine: list[Any] = []
    with BanHammer([trap("ping")], actions={"ping": mine.append}) as hammer:
        hammer.hit("k", "trap")
        assert hammer.drain(PATIENCE)
    assert (len(mine), ran("pinger")) == (1, [])


def test_a_distribution_that_is_found_twice_is_loaded_once(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = install("pinger", GIVES)
    again = tmp_path / "again"
    again.symlink_to(site)
    monkeypatch.syspath_prepend(again)
    assert [plugin.name for plugin in plugins.loaded().all].count("pinger") == 1
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("text", ["", "[banhammer\nx", "[banhammer]\nno equals sign\n", "\xff"])
def test_what_is_left_of_an_installation_that_failed_hinders_nobody(install: Install, text: str) -> None:
    site = install("pinger", GIVES)
    for name in ("broken-1.0.dist-info", "~ird-1.0.dist-info", "empty.egg-info"):
        (site / name).mkdir()
        (site / name / "entry_points.txt").write_text(text, "latin-1")
    (site / "entry.dist-info").mkdir()
    (site / "entry.dist-info" / "entry_points.txt").write_text("[banhammer]\nx = plug_pinger\n")
    assert "ping" in plugins.loaded().make({})[0]


def test_variables_choose_what_is_loaded(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("pinger", GIVES, entry="ping")
    install("other", GIVES.replace("ping", "pong"), entry="pong")

    def loaded_with(**variables: str) -> set[str]:
        for name in (plugins.LOAD, plugins.DISABLE):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return set(plugins.loaded().make({})[0]) - others

    assert loaded_with() == {"ping", "pong"}
    assert loaded_with(BANHAMMER_LOAD_PLUGINS="ping") == {"ping"}
    assert loaded_with(BANHAMMER_LOAD_PLUGINS="other, nobody,") == {"pong"}
    assert loaded_with(BANHAMMER_LOAD_PLUGINS="") == set()
    assert loaded_with(BANHAMMER_DISABLE_PLUGINS="pinger") == {"pong"}
    assert loaded_with(BANHAMMER_DISABLE_PLUGINS="") == {"ping", "pong"}
    assert loaded_with(BANHAMMER_LOAD_PLUGINS="ping,pong", BANHAMMER_DISABLE_PLUGINS="pong") == {"ping"}


@pytest.mark.parametrize("variable", [plugins.LOAD, plugins.DISABLE])
def test_a_name_that_no_installed_plugin_has_is_reported(
    install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    install("pinger", GIVES, entry="ping")
    monkeypatch.setenv(variable, f"pinger, pingr-{variable}")
    plugins.loaded()
    assert caplog.messages == [
        f"plugin pingr-{variable}: {variable} names it, but none of that name is installed; the name has no effect"
    ]


def test_what_is_disabled_is_not_even_imported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("pinger", "1 / 0")
    monkeypatch.setenv(plugins.DISABLE, "pinger")
    assert others.issuperset(plugin.name for plugin in plugins.loaded().all)


def test_observers_see_what_no_action_was_named_for_and_harm_nobody(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    watch = "@hookimpl\ndef banhammer_escalated(escalation):\n    seen.append(escalation)\n"
    install("watcher", watch)
    install("broken", watch + "    raise OSError('no')\n")
    install("exits", watch + "    raise SystemExit(1)\n")
    with BanHammer([trap()]) as hammer:
        assert not hammer.hit("k", "trap")
        hammer.unban("k", "trap")
        assert hammer.drain(PATIENCE)
    for name in ("watcher", "broken", "exits"):
        assert [each.verdict for each in ran(name)] == ["banned", "lifted"]
    assert caplog.text.count("action plugin broken failed for key 'k'") == 2
