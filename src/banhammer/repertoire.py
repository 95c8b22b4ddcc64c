"""The actions that a hammer has: those of plugins, made from their tables, and the application's, each on its terms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from banhammer import plugins
from banhammer.actions import Action, nobody_gives, resolve
from banhammer.actions.blocked import Blocked, BlockLocal
from banhammer.errors import ConfigError, did_you_mean
from banhammer.model import Policy
from banhammer.worker.terms import TERMS, OnTerms, terms_of

BLOCK: Final = "block_local"

Tables = Mapping[str, Mapping[str, Any]]
"""The tables `[actions.NAME]` of a configuration, by the names of the actions."""


class Made(NamedTuple):
    """The actions of plugins; the mistakes in tables, each with the setting's name in front, by the name of the action;
    and why nobody reads a table, by that name too."""

    actions: dict[str, Any]
    mistakes: dict[str, list[str]]
    unread: dict[str, str]


class Repertoire(NamedTuple):
    """All actions by name, and what `block_local` lists; `blocked` is empty for ever where a plugin replaced it."""

    actions: dict[str, Action]
    blocked: Blocked


def make(tables: Tables, given: Collection[str] | None = ()) -> Made:
    """Have plugins make their actions from the tables, and check that each table has somebody to read it.

    `given`: the names of the application's own actions; `None`: it may give any.
    """
    settings = {name: _without_terms(table) for name, table in tables.items()}
    actions, wrong = plugins.loaded().make(settings, _wrong_terms)
    mistakes = {name: list(found) for name, found in wrong.items()}
    unread: dict[str, str] = {}
    for name, table in tables.items():
        found = mistakes.setdefault(name, [])
        try:
            terms_of(None, table)
        except ConfigError as error:
            found += error.mistakes
        if name in actions or name in wrong:
            continue
        if given is not None and name not in given:
            unread[name] = nobody_gives(name, {*actions, *given})
        else:
            own = (
                "only a plugin's action has settings of its own, and no installed plugin gives this one; "
                f"one of the application has {', '.join(TERMS)}{did_you_mean(name, actions)}"
            )
            found += (f"{setting}: {own}" for setting in _without_terms(table))
    return Made(actions, {name: found for name, found in mistakes.items() if found}, unread)


def assemble(
    policies: Mapping[str, Policy],
    given: Mapping[str, Action] | None,
    tables: Tables | None,
    clock: Callable[[], float] | None = None,
) -> Repertoire:
    """Return the actions of a hammer; `clock` returns Unix seconds. Raises `ConfigError` with every mistake.

    An application's own `block_local` is called beside the listing, not in its place.
    """
    given, tables = dict(given or {}), _checked({} if tables is None else tables)
    made, mistakes, unread = make(tables, given)
    wrong = [f"actions.{name}: {text}" for name, text in unread.items()]
    wrong += [f"actions.{name}.{text}" for name, found in mistakes.items() for text in found]
    if wrong:
        raise ConfigError(wrong)
    actions = resolve(policies, given, made)
    listing = made.get(BLOCK)
    block = (listing if isinstance(listing, BlockLocal) else BlockLocal()).bound_to(given.get(BLOCK), clock)
    if isinstance(listing, BlockLocal):
        actions[BLOCK] = block
    on_terms = {name: OnTerms(actions[name], table) for name, table in tables.items() if {*table} & {*TERMS}}
    return Repertoire({**actions, **on_terms}, block.blocked)


def _without_terms(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in TERMS}


def _wrong_terms(action: object) -> str | None:
    """Return what is wrong with the terms that an action has of its own, or `None`."""
    try:
        terms_of(action)
    except ConfigError as error:
        return f"has {'; '.join(error.mistakes)}"
    return None


def _checked(tables: object) -> Tables:
    """Return tables of settings by name. Raises `ConfigError`, which does not quote what is none: it may be secret."""
    if not isinstance(tables, Mapping) or not all(isinstance(name, str) for name in tables):
        raise ConfigError("action_settings: give a mapping of the actions' names to their settings")
    wrong = [name for name, table in tables.items() if not isinstance(table, Mapping)]
    if wrong:
        raise ConfigError(f"actions.{name}: give a mapping of settings" for name in wrong)
    return tables
