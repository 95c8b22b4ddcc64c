"""Plugins: found when a hammer is built, validated one by one; one that fails is reported once and left out.

`BANHAMMER_LOAD_PLUGINS` names the installed plugins to load, and no others; `BANHAMMER_DISABLE_PLUGINS` those to leave
out. Both take names of entry points or of distributions, with commas between them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, distributions, version
from typing import Any, Final, NamedTuple, cast

import pluggy

from banhammer import hookspecs
from banhammer.errors import ConfigError, one_line, text_of
from banhammer.hookspecs import PROJECT

log = logging.getLogger("banhammer")

BUILT_IN: Final = ("banhammer.actions.builtin", "banhammer.backends.builtin")
"""Modules that come through the same door as any plugin."""
OURS: Final = "banhammer-limiter"
LOAD: Final = "BANHAMMER_LOAD_PLUGINS"
DISABLE: Final = "BANHAMMER_DISABLE_PLUGINS"

Settings = Mapping[str, Mapping[str, Any]]
Observer = Callable[[Any], object]


class _Source(NamedTuple):
    """The distribution that a plugin comes from."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin that was found: where it comes from, the hooks that it has, and why it was left out, if it was."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    problem: str | None
    manager: pluggy.PluginManager | None

    def gives(
        self, hook: str, arguments: Mapping[str, object], mistake: type[Exception] | tuple[()] = ()
    ) -> Mapping[str, Any]:
        """Return what a hook gives, by name; a plugin that fails to answer gives nothing, and is reported once.

        Only errors of the class `mistake` are raised.
        """
        if hook not in self.hooks:
            return {}
        try:
            given = self.call(hook, arguments)
            if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
                return given
            problem = f"its {hook} gave {_kind(given)}; it must give a mapping by name"
        except mistake:
            raise
        except (Exception, SystemExit) as error:
            problem = f"its {hook} failed: {type(error).__name__}: {text_of(error)}"
        _report(self.name, problem, "what it gives is left out")
        return {}

    def watch(self, escalation: object) -> None:
        """Show the plugin an escalation. Raises what it raises."""
        self.call("banhammer_escalated", {"escalation": escalation})

    def call(self, hook: str, arguments: Mapping[str, object]) -> Any:
        """Call the plugin's hook with those of the arguments that it asks for, and return its answer."""
        answers = getattr(cast(pluggy.PluginManager, self.manager).hook, hook)(**arguments)
        return answers[0] if answers else None  # Pluggy leaves out an answer of None.


class Plugins:
    """The plugins of one process, and what they give."""

    def __init__(self, found: Sequence[Plugin]) -> None:
        self.all = tuple(found)
        self._sound = [plugin for plugin in found if plugin.problem is None]

    def make(
        self, settings: Settings, wrong: Callable[[Any], str | None] = lambda _: None
    ) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """Return every action by name, made from its table in `settings`, and the mistakes in tables, by name too.

        `wrong`: says why an action cannot be one; it is left out.
        """
        made: dict[str, Any] = {}
        givers: dict[str, str] = {}
        mistakes: dict[str, tuple[str, ...]] = {}
        for plugin in self._sound:
            for name, action in self._made(plugin, settings, mistakes).items():
                problem = _problem(action, wrong)
                if problem is not None:
                    _report(plugin.name, f"its action {name!r} {problem}", "that one is left out")
                elif givers.setdefault(name, plugin.name) == plugin.name:
                    made[name] = action
                else:
                    _report(plugin.name, f"its action {name!r} is one of {givers[name]} too", "that one is left out")
        return made, mistakes

    def observers(self) -> dict[str, Observer]:
        """Return what watches every escalation, by the name of its plugin."""
        return {plugin.name: plugin.watch for plugin in self._sound if "banhammer_escalated" in plugin.hooks}

    def openers(self) -> dict[str, Callable[..., Any]]:
        """Return what opens a store, by the scheme of its URL."""
        openers: dict[str, Callable[..., Any]] = {}
        givers: dict[str, str] = {}
        for plugin in self._sound:
            for scheme, opener in plugin.gives("banhammer_backends", {}).items():
                name = scheme.lower()
                if not callable(opener):
                    _report(plugin.name, f"what opens {name!r} is {_kind(opener)}, no callable", "that one is left out")
                elif givers.setdefault(name, plugin.name) == plugin.name:
                    openers[name] = opener
                else:
                    _report(plugin.name, f"{givers[name]} opens {name!r} already", "that one is left out")
        return openers

    @staticmethod
    def _made(plugin: Plugin, settings: Settings, mistakes: dict[str, tuple[str, ...]]) -> dict[str, Any]:
        """Return the actions of one plugin. It is asked for each table alone, so that its mistakes have an address."""
        hook = "banhammer_actions"
        made = dict(plugin.gives(hook, {"settings": {}}))
        for name, table in settings.items():
            try:
                # A copy, for a plugin may change what it gets.
                given = plugin.gives(hook, {"settings": {name: _copied(table)}}, ConfigError)
            except ConfigError as error:
                mistakes[name] = error.mistakes
                continue
            if name in given:
                made[name] = given[name]
            else:  # It failed: what it makes without the table is not what the table asks for.
                made.pop(name, None)
        return made


def loaded() -> Plugins:
    """Return the plugins of this process; they are loaded at the first call, and anew where the environment changed."""
    return _loaded(_names(LOAD), _names(DISABLE))


@functools.cache
def _loaded(only: frozenset[str] | None, without: frozenset[str] | None) -> Plugins:
    found = [_checked(name.rpartition(".")[0], OURS, _own_version(), import_module(name)) for name in BUILT_IN]
    givers = {plugin.name: plugin.distribution for plugin in found}
    installed: set[str] = set()
    for known_as, entry_point in _installed():
        names = {entry_point.name, known_as.name}
        installed |= names
        if (only is not None and not names & only) or names & (without or frozenset()):
            continue
        giver = givers.setdefault(entry_point.name, known_as.name)
        if giver != known_as.name:
            found.append(_left_out(entry_point.name, *known_as, f"{giver} has a plugin of this name already"))
            continue
        found.append(_load(known_as, entry_point))
    for variable, named in ((LOAD, only), (DISABLE, without)):
        for name in sorted((named or frozenset()) - installed):
            _report(name, f"{variable} names it, but none of that name is installed", "the name has no effect")
    return Plugins(found)


def _own_version() -> str:
    try:
        return version(OURS)
    except PackageNotFoundError:  # Run from its sources, without having been installed.
        return ""


def _installed() -> Iterator[tuple[_Source, EntryPoint]]:
    seen = set()
    for distribution in distributions():
        try:
            ours = [each for each in distribution.entry_points if each.group == PROJECT]
            source = _Source(distribution.name, distribution.version) if ours else None
        except Exception as error:  # What is left of an installation that failed must not hinder the application.
            where = getattr(distribution, "_path", "a distribution")
            _report(
                str(where), f"its metadata cannot be read: {type(error).__name__}: {text_of(error)}", "it is left out"
            )
            continue
        for entry_point in ours:
            if source is not None and (source.name, entry_point.name) not in seen:  # Editable ones are found twice.
                seen.add((source.name, entry_point.name))
                yield source, entry_point


def _load(source: _Source, entry_point: EntryPoint) -> Plugin:
    try:
        plugin = entry_point.load()
    except BaseException as error:  # Also SystemExit: a plugin must not end the application.
        if isinstance(error, KeyboardInterrupt):
            raise
        return _left_out(entry_point.name, *source, f"it does not load: {type(error).__name__}: {text_of(error)}")
    return _checked(entry_point.name, *source, plugin)


def _checked(name: str, distribution: str, version: str, plugin: object) -> Plugin:
    """Return the plugin if its hooks are ones that exist, with the arguments that they have."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin)
        manager.check_pending()
    except Exception as error:
        return _left_out(name, distribution, version, f"its hooks are not valid: {text_of(error)}")
    hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(plugin) or ()))
    if not hooks:
        return _left_out(name, distribution, version, "it has no hook of banhammer")
    return Plugin(name, distribution, version, hooks, None, manager)


def _left_out(name: str, distribution: str, version: str, problem: str) -> Plugin:
    _report(name, problem, "it is left out")
    return Plugin(name, distribution, version, (), problem, None)


@functools.cache
def _report(name: str, problem: str, consequence: str) -> None:
    """Log what is wrong with a plugin, once a process."""
    log.warning("plugin %s: %s; %s", one_line(name), one_line(problem), consequence)


def _copied(value: Any) -> Any:
    """Return tables and lists anew; what else a setting may be is left as it is."""
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _problem(action: Any, wrong: Callable[[Any], str | None]) -> str | None:
    """Return why something cannot be an action, or `None`."""
    try:
        if not callable(action) and not callable(getattr(action, "run", None)):
            return f"is {_kind(action)}, neither a callable nor an object with run"
        return wrong(action)
    except Exception as error:  # It is a plugin's own code that tells of an attribute.
        return f"cannot be looked at: {type(error).__name__}: {text_of(error)}"


def _kind(given: object) -> str:
    """Return what something is, without what it holds: that may be secret."""
    return "None" if given is None else f"a {type(given).__name__}"


def _names(variable: str) -> frozenset[str] | None:
    value = os.environ.get(variable)
    return None if value is None else frozenset(filter(None, map(str.strip, value.split(","))))
