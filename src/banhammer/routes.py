"""Which requests are hits, and how a request is decided: the same steps live and in replay, without I/O.

matched = routes.match(request)
denied = denial(hammer.hit_many(before(matched), stop=True))
if denied is None:
    ...  # The application answers.
    hammer.hit_many(after(matched, status))

Where a call of the store costs little, `ask` decides the same hits faster than `hit_many`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from banhammer.decision import Decision
from banhammer.errors import ConfigError
from banhammer.identity import Request, Selector, parse_selector
from banhammer.model import MAX_COST, Hit, Policy

_METHOD: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_CODE: Final = re.compile(r"[1-5](?:\d\d|xx)", re.ASCII)
_PIECE: Final = re.compile(r"\[!?+\]?+[^\]]*+\]|.", re.DOTALL)
"""One piece of a glob: a character class, a wildcard or a character."""
_IP: Final = parse_selector("ip")
_MEMO: Final = 8_192
_MEMO_LENGTH: Final = 512
"""Longer paths are matched anew: hostile ones must not fill the memory."""


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """Requests that are hits on a policy, or with `skip` on none, nor on any route behind.

    `path` and `excluded` (the file's `except`): globs of `fnmatch.fnmatchcase` on the path without its query,
    so `*` matches `/` too; default every path. `methods`: default all. `status`: codes and classes like
    `"4xx"`; present, the policy is guarded before the response and hit after a response of these codes;
    absent, hit before. `policy`: its name, empty on a `skip` route. `key`: a selector, read from the request.
    `cost`: 1 to 1,000,000.
    Raises `ConfigError`.
    """

    path: tuple[str, ...]
    excluded: tuple[str, ...]
    methods: frozenset[str] | None
    status: tuple[str, ...]
    policy: str
    key: Selector
    cost: int
    skip: bool
    codes: frozenset[int] = field(repr=False, compare=False)
    """Every response code that `status` names."""

    def __init__(
        self,
        path: str | Iterable[str] | None = None,
        *,
        excluded: str | Iterable[str] | None = None,
        methods: str | Iterable[str] | None = None,
        status: int | str | Iterable[int | str] | None = None,
        policy: str = "",
        key: str | Selector = "ip",
        cost: int = 1,
        skip: bool = False,
    ) -> None:
        mistakes: list[str] = []
        globs = "a glob or a list of globs, like '/login*'"
        named = _status(mistakes, status)
        put = object.__setattr__
        put(self, "path", _texts(mistakes, "path", path, globs) or ("*",))
        put(self, "excluded", _texts(mistakes, "except", excluded, globs))
        put(self, "methods", _methods(mistakes, methods))
        put(self, "status", named)
        put(self, "policy", policy)
        put(self, "key", _selector(mistakes, key))
        put(self, "cost", cost)
        put(self, "skip", skip)
        put(self, "codes", frozenset(code for name in named for code in _codes(name)))
        mistakes += _purpose(self)
        if mistakes:
            raise ConfigError(mistakes)

    @property
    def guarded(self) -> bool:
        """Whether the outcome decides: a guard before the response, the hit after it."""
        return bool(self.codes)


Matched = list[tuple[Route, str]]
"""The routes of one request in their order, each with the key that it counts."""


class Routes:
    """The routes of a configuration, in order. Safe to share between threads."""

    __slots__ = ("_matching", "_tests", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._tests = [(route, _any(route.path), _any(route.excluded)) for route in self.routes]
        self._matching = lru_cache(maxsize=_MEMO)(self._match)

    def match(self, request: Request) -> Matched:
        """Return the request's routes and keys, as far as the first `skip`; without a key, no match."""
        path, method = request.path, request.method
        if "?" in path:
            path = path[: path.index("?")]
        find = self._matching if len(path) + len(method) <= _MEMO_LENGTH else self._match
        return [(route, key) for route in find(path, method) if (key := route.key.read(request)) is not None]

    def _match(self, path: str, method: str) -> tuple[Route, ...]:
        found = []
        method = method.upper()
        for route, included, excluded in self._tests:
            if route.methods is not None and method not in route.methods:
                continue
            if not included(path) or excluded(path):
                continue
            if route.skip:
                break
            found.append(route)
        return tuple(found)


class Hammer(Protocol):
    """What decides one hit or guard at a time, such as `BanHammer`."""

    def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Count and decide."""
        ...

    def guard(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Ask before the outcome is known."""
        ...


def before(matched: Matched) -> list[Hit]:
    """Return what to decide before the application, up to the first denial (so with `stop`)."""
    return [Hit(key, route.policy, cost=route.cost, guard=bool(route.codes)) for route, key in matched]


def denial(decisions: Iterable[Decision | None]) -> Decision | None:
    """Return the decision that ended the request, or `None` if it was let through."""
    for decision in decisions:
        if decision is not None and not decision.allowed:
            return decision
    return None


def after(matched: Matched, status: int) -> list[Hit]:
    """Return what to count after a response of this code; it denies only what follows (so without `stop`)."""
    return [Hit(key, route.policy, cost=route.cost) for route, key in matched if status in route.codes]


def ask(hammer: Hammer, hits: Iterable[Hit], *, stop: bool = False) -> list[Decision]:
    """Decide hits one call each, in order; with `stop`, the last decision is the first denial.

    It decides as `hit_many` does. In memory one or two hits cost a third of their batch; on a shared store
    each is a round trip.
    """
    decisions = []
    for hit in hits:
        decide = hammer.guard if hit.guard else hammer.hit
        decision = decide(hit.key, hit.policy, hit.cost)
        decisions.append(decision)
        if stop and not decision.allowed:
            break
    return decisions


def wrong_order(routes: Iterable[Route], policies: Mapping[str, Policy]) -> list[str]:
    """Return a warning for each route that only throttles before one that bans the same requests."""
    warnings = []
    skipped: list[str] = []
    throttling: list[tuple[int, Route]] = []
    for index, route in enumerate(routes):
        if route.skip and route.methods is None and not route.excluded:
            skipped += route.path
        policy = policies.get(route.policy)
        if policy is None:
            continue
        if not any(threshold.ban for threshold in policy.thresholds):
            throttling.append((index, route))
            continue
        warnings += [
            f"routes.{earlier}: policy {throttle.policy!r} only throttles, yet stands before routes.{index}, "
            f"where policy {route.policy!r} bans and never sees what was throttled; "
            f"put routes.{index} first, or better, the thresholds of both in one policy"
            for earlier, throttle in throttling
            if _may_share(throttle, route, skipped)
        ]
    return warnings


def _may_share(one: Route, other: Route, skipped: Iterable[str]) -> bool:
    """Tell whether a request can match both routes; where it is hard to tell, say yes."""
    if one.methods is not None and other.methods is not None and not one.methods & other.methods:
        return False
    hidden = (*one.excluded, *other.excluded, *skipped)
    here = [glob for glob in one.path if not _covered(glob, hidden)]
    there = [glob for glob in other.path if not _covered(glob, hidden)]
    return any(_overlap(left, right) for left in here for right in there)


def _covered(glob: str, hidden: Iterable[str]) -> bool:
    # A glob with no wildcard but '*' covers every glob that it matches when read as a text.
    return any(
        glob == cover or ("?" not in cover and "[" not in cover and fnmatch.fnmatchcase(glob, cover))
        for cover in hidden
    )


def _overlap(left: str, right: str) -> bool:
    """Tell whether some path matches both globs; a character class counts as any character."""
    ours, theirs = _pieces(left), _pieces(right)
    # shared[j]: what is left of `ours`, read from its end, and `theirs[j:]` match a common path.
    shared = [all(piece == "*" for piece in theirs[j:]) for j in range(len(theirs) + 1)]
    for piece in reversed(ours):
        rest, shared = shared, [piece == "*" and shared[-1]] * (len(theirs) + 1)
        for j in reversed(range(len(theirs))):
            if "*" in (piece, theirs[j]):
                shared[j] = rest[j] or shared[j + 1]
            else:
                shared[j] = rest[j + 1] and (piece == theirs[j] or "?" in (piece, theirs[j]))
    return shared[0]


def _pieces(glob: str) -> list[str]:
    return [piece if len(piece) == 1 else "?" for piece in _PIECE.findall(glob)]


def _any(globs: Iterable[str]) -> Callable[[str], object]:
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)").match


def _texts(mistakes: list[str], label: str, value: object, form: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not items and label != "except":  # To except nothing is a meaning; to match nothing is a slip.
        mistakes.append(f"{label}: []; write {form}, or leave it out")
    texts = tuple(item for item in items if isinstance(item, str) and item)
    mistakes += [f"{label}: {item!r}; write {form}" for item in items if item not in texts]
    return texts


def _methods(mistakes: list[str], value: object) -> frozenset[str] | None:
    form = "a list of methods, like ['POST']"
    names = _texts(mistakes, "methods", value, form)
    mistakes += [f"methods: {name!r}; write {form}" for name in names if not _METHOD.fullmatch(name)]
    return frozenset(name.upper() for name in names) or None


def _status(mistakes: list[str], value: object) -> tuple[str, ...]:
    form = "codes from 100 to 599 and classes, like 401 or '4xx'"
    items = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    texts = [str(item).lower() if isinstance(item, (int, str)) else repr(item) for item in items]
    names = _texts(mistakes, "status", None if value is None else texts, form)
    mistakes += [f"status: {name}; write {form}" for name in names if not _CODE.fullmatch(name)]
    return tuple(name for name in names if _CODE.fullmatch(name))


def _codes(name: str) -> range:
    first = int(name.replace("x", "0"))
    return range(first, first + (100 if "x" in name else 1))


def _selector(mistakes: list[str], key: str | Selector) -> Selector:
    if isinstance(key, Selector):
        return key
    try:
        return parse_selector(key)
    except ConfigError as error:
        mistakes += [f"key: {mistake}" for mistake in error.mistakes]
        return _IP


def _purpose(route: Route) -> list[str]:
    mistakes = []
    if isinstance(route.cost, bool) or not isinstance(route.cost, int) or not 1 <= route.cost <= MAX_COST:
        mistakes.append(f"cost: {route.cost!r}; it must be an integer from 1 to {MAX_COST:,}")
    if not isinstance(route.skip, bool):
        return [*mistakes, f"skip: {route.skip!r}; write true or false"]
    if not isinstance(route.policy, str):
        mistakes.append(f"policy: {route.policy!r}; write the name of a policy")
    if not route.skip:
        return mistakes if route.policy else [*mistakes, "policy: missing; name one, or set skip = true"]
    given = {"policy": route.policy, "status": route.status, "key": route.key != _IP, "cost": route.cost != 1}
    return mistakes + [
        f"{name}: a route with skip = true counts nothing; leave it out" for name in given if given[name]
    ]
