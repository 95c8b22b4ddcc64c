"""The values that every part shares: policies and hits in, records and bans and escalations out.

Times are integer microseconds since the Unix epoch, except in what an application reads (`Ban`,
`Escalation`, `Status`), where they are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from banhammer.checks import MAX_SPAN, is_int, ladder, micros_of, name_list
from banhammer.durations import DAY, SECOND, Duration, format_duration
from banhammer.errors import ConfigError

Verdict = Literal["allowed", "throttled", "banned"]
Mode = Literal["enforce", "shadow"]
OnError = Literal["local", "open", "closed"]
Origin = Literal["hit", "manual"]
WorkerPlace = Literal["internal", "external"]
"""Who runs the actions that a durable store keeps: the hammer's own worker, or others."""
Clock = Callable[[], int]
"""What tells the time: Unix microseconds."""

MAX_COST: Final = 1_000_000
MAX_RATE: Final = 100_000
"""The highest `limit / period`, a second."""
MIN_PERIOD: Final = 1_000
MAX_PERIOD: Final = 365 * DAY
MAX_STRIKES: Final = 2**31 - 1
MAX_THRESHOLDS: Final = 32
"""Thresholds of one policy: a record keeps their flags in 32 bits."""
LOCAL_ACTIONS: Final = frozenset({"block_local"})
"""Actions that only mean something in the process that saw the crossing."""
RING: Final = 12
"""Slots in the ring of one tracked window."""

_POLICY_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, init=False)
class Threshold:
    """`limit` units per `period`, with room for `burst` at once; with `ban`, crossing it bans.

    `limit`: an integer, at least 1. `period`: a duration, 1 ms to 365 d. `burst`: default `limit`; at least
    1, or 0 on a ban threshold (a honeypot: the first hit trips). `ban`: a duration or a list of them, the
    ladder: the n-th strike takes the n-th rung, the last one repeats. `actions`: names of what runs when the
    threshold is crossed. `limit / period` is at most 100,000 a second; tolerance and rungs at most 10 years.
    Raises `ConfigError` outside these bounds. Durations are kept in microseconds.
    """

    limit: int
    period: int
    burst: int
    ban: tuple[int, ...]
    actions: tuple[str, ...]
    interval: int = field(repr=False, compare=False)
    """T, the emission interval: the microseconds that one unit takes to drain."""
    tolerance: int = field(repr=False, compare=False)
    """T * burst: how far the meter may run ahead."""

    def __init__(
        self,
        limit: int,
        period: Duration,
        *,
        burst: int | None = None,
        ban: Duration | Iterable[Duration] | None = None,
        actions: Iterable[str] | None = (),
    ) -> None:
        mistakes: list[str] = []
        micros = micros_of(mistakes, "period", period, MIN_PERIOD, MAX_PERIOD)
        rungs = ladder(mistakes, ban)
        least = 1 if ban is None else 0
        if not is_int(limit) or limit < 1:
            mistakes.append(f"limit: {limit!r}; it must be an integer of at least 1")
        elif micros and limit * SECOND > MAX_RATE * micros:
            mistakes.append(f"limit: {limit} per {format_duration(micros)}; at most {MAX_RATE:,} a second")
        if burst is not None and (not is_int(burst) or burst < least):
            kind = "a throttle" if ban is None else "a ban threshold"
            mistakes.append(f"burst: {burst!r}; {kind} needs an integer of at least {least}")
        names = name_list(mistakes, "actions", actions, "names, like ['block_local']")
        if mistakes:
            raise ConfigError(mistakes)
        room = limit if burst is None else burst
        interval = -(-micros // limit)  # Rounded up: strict, never above the limit.
        if interval * room > MAX_SPAN:
            raise ConfigError(f"burst: {room}; {room} units drain in more than ten years, so lower it")
        put = object.__setattr__
        put(self, "limit", limit)
        put(self, "period", micros)
        put(self, "burst", room)
        put(self, "ban", rungs)
        put(self, "actions", names)
        put(self, "interval", interval)
        put(self, "tolerance", interval * room)

    def duration(self, strikes: int) -> int:
        """Return how long the ban of a key with so many strikes lasts: the rung, in microseconds."""
        return self.ban[min(max(strikes, 1), len(self.ban)) - 1]

    @property
    def reason(self) -> str:
        """Why a hit that crossed this threshold was denied, in a few words: `over 10 per 1h`."""
        return f"over {self.limit} per {format_duration(self.period)}"


@dataclass(frozen=True, slots=True, init=False)
class Policy:
    """A named set of thresholds that are decided together, mildest consequence first.

    `name`: `[a-z0-9][a-z0-9_.-]{0,63}`. `track`: windows whose hits are counted, by the spelling that
    `Decision.rates` uses. `forgive_after`: how long after a ban its strike is remembered, at most 10 years.
    `mode`: `enforce` or `shadow`, default the hammer's. `on_error`: what decides when the store cannot be
    asked: `local` rules of this process, `open` (allow) or `closed` (deny). `allow`, `deny`: keys and
    networks. Raises `ConfigError`.
    """

    name: str
    thresholds: tuple[Threshold, ...]
    track: tuple[str, ...]
    forgive_after: int
    mode: Mode | None
    on_error: OnError
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    windows: tuple[int, ...] = field(repr=False, compare=False)
    """The tracked windows in microseconds, in the order of `track`."""
    top: int = field(repr=False, compare=False)
    """The index of the highest ban threshold, -1 without one: a ban of that level leaves no threshold awake."""
    delivers: bool = field(repr=False, compare=False)
    """Whether it names an action that any process of a fleet may run, so that a durable store keeps it."""

    def __init__(
        self,
        name: str,
        thresholds: Iterable[Threshold],
        *,
        track: Iterable[Duration] | None = (),
        forgive_after: Duration | None = "1d",
        mode: Mode | None = None,
        on_error: OnError | None = "local",
        allow: Iterable[str] | None = (),
        deny: Iterable[str] | None = (),
    ) -> None:
        track = () if track is None else track
        forgive_after = "1d" if forgive_after is None else forgive_after
        on_error = "local" if on_error is None else on_error
        mistakes: list[str] = []
        if not isinstance(name, str) or not _POLICY_NAME.fullmatch(name):
            mistakes.append(f"name: {name!r}; use up to 64 of a-z, 0-9, '_', '.', '-', a letter or digit first")
        levels = tuple(thresholds) if isinstance(thresholds, Iterable) else ()
        if not levels or not all(isinstance(level, Threshold) for level in levels):
            mistakes.append(f"thresholds: {thresholds!r}; a policy needs a list of at least one Threshold")
            levels = ()
        if len(levels) > MAX_THRESHOLDS:
            mistakes.append(f"thresholds: {len(levels)}; a policy has at most {MAX_THRESHOLDS}")
        spellings = tuple(track) if not isinstance(track, (str, int, float)) else (track,)
        windows = tuple(
            micros_of(mistakes, f"track.{i}", window, MIN_PERIOD, MAX_PERIOD) for i, window in enumerate(spellings)
        )
        if len(set(windows)) < len(windows):
            mistakes.append(f"track: {list(spellings)!r} names a window twice; leave one out")
        forgive = micros_of(mistakes, "forgive_after", forgive_after, 1, MAX_SPAN)
        if mode not in (None, "enforce", "shadow"):
            mistakes.append(f"mode: {mode!r}; use 'enforce' or 'shadow'")
        if on_error not in ("local", "open", "closed"):
            mistakes.append(f"on_error: {on_error!r}; use 'local', 'open' or 'closed'")
        allowed = name_list(mistakes, "allow", allow, "keys and networks")
        denied = name_list(mistakes, "deny", deny, "keys and networks")
        if mistakes:
            raise ConfigError(f"policies.{name}.{mistake}" for mistake in mistakes)
        put = object.__setattr__
        put(self, "name", name)
        put(self, "thresholds", levels)
        put(self, "track", tuple(str(window) for window in spellings))
        put(self, "forgive_after", forgive)
        put(self, "mode", mode)
        put(self, "on_error", on_error)
        put(self, "allow", allowed)
        put(self, "deny", denied)
        put(self, "windows", windows)
        put(self, "delivers", any(name not in LOCAL_ACTIONS for level in levels for name in level.actions))
        put(self, "top", max((index for index, level in enumerate(levels) if level.ban), default=-1))


class Hit:
    """One event to decide in a batch: who, under which policy, how many units; `guard` asks before counting."""

    __slots__ = ("cost", "guard", "key", "policy")

    def __init__(self, key: str, policy: str, *, cost: int = 1, guard: bool = False) -> None:
        self.key = key
        self.policy = policy
        self.cost = cost
        self.guard = guard

    def __repr__(self) -> str:
        return f"Hit({self.key!r}, {self.policy!r}, cost={self.cost!r}, guard={self.guard!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hit):
            return NotImplemented
        return (self.key, self.policy, self.cost, self.guard) == (
            other.key,
            other.policy,
            other.cost,
            other.guard,
        )

    def __hash__(self) -> int:
        return hash((self.key, self.policy, self.cost, self.guard))


Ring = tuple[int, int, tuple[int, ...]]
"""One tracked window: its length in microseconds, its newest slot, and the hits of the 12 slots by `slot % 12`."""


class Record:
    """All that is known of one key under one policy. A value: it is replaced, never changed.

    `tats`: the theoretical arrival time of each threshold's meter; `over`: a bit for each throttle that was
    gone over and has not been empty since; `banned_until`: 0 for never banned, `FOREVER`; `level`: the index
    of the threshold that banned; `rings`: the counters of the tracked windows.
    """

    __slots__ = ("banned_until", "level", "over", "rings", "strikes", "tats")

    def __init__(
        self,
        tats: tuple[int, ...],
        over: int = 0,
        strikes: int = 0,
        banned_until: int = 0,
        level: int = 0,
        rings: tuple[Ring, ...] = (),
    ) -> None:
        self.tats = tats
        self.over = over
        self.strikes = strikes
        self.banned_until = banned_until
        self.level = level
        self.rings = rings

    def astuple(self) -> tuple[tuple[int, ...], int, int, int, int, tuple[Ring, ...]]:
        """Return the fields in the order of the constructor."""
        return (self.tats, self.over, self.strikes, self.banned_until, self.level, self.rings)

    def __eq__(self, other: object) -> bool:
        return self.astuple() == other.astuple() if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.astuple())

    def __repr__(self) -> str:
        return "Record" + repr(self.astuple())


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban in force, or one that was lifted. `since` and `until` are Unix seconds, `until` is `inf` for ever."""

    key: str
    policy: str
    threshold: int
    strikes: int
    since: float
    until: float
    origin: Origin
    reason: str
    id: str
    """The id of the escalation that made or last lengthened it."""

    @property
    def banned_until(self) -> float:
        """The end, by the name that a decision gives it."""
        return self.until


@dataclass(frozen=True, slots=True)
class Escalation:
    """What an action gets: a key crossed a threshold, or its ban was lifted by hand.

    `id` is the same on every redelivery. `at` and `until` are Unix seconds (`until` is `inf` for ever and
    `None` without a ban), `period` is in seconds. `origin` is `hit` or `manual`.
    """

    id: str
    key: str
    policy: str
    threshold: int
    verdict: Literal["throttled", "banned", "lifted"]
    strikes: int
    at: float
    until: float | None
    limit: int
    period: float
    cost: int
    reason: str
    shadow: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class Status:
    """The current record of one key under one policy in full; what has lapsed is left out.

    `tats` and `reset_after` are in seconds (Unix time, and from now); `banned_until` as in a decision;
    `level` is the index of the threshold that banned, `None` without a ban; `ban` has its details.
    """

    key: str
    policy: str
    strikes: int
    banned_until: float | None
    level: int | None
    tats: tuple[float, ...]
    over: tuple[bool, ...]
    remaining: tuple[int, ...]
    reset_after: float
    rates: dict[str, int] | None
    ban: Ban | None
