"""The original specification's API over today's engine: thresholds by metric, callables as actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from banhammer.backends import Backend
from banhammer.durations import to_seconds
from banhammer.errors import ConfigError
from banhammer.hammer import BanHammer as _BanHammer
from banhammer.model import Clock, Escalation, Policy, Status, Threshold

Action = Callable[[str, float, str, float, int], object]
"""Called as `(token, duration, key, window, limit)`: `key` is the metric, durations are in seconds."""

RATES: Final = {"1m": "token_rate_1m", "10m": "token_rate_10m", "60m": "token_rate_60m"}


class BanHammer:
    """A drop-in for the original: `bans` maps each metric to its thresholds.

    `bans`: `{metric: {"thresholds": [{"limit", "window", "action", "action_duration"}]}}`; windows and durations
    in seconds or like `1h`; an action is a callable, or a list of them, of `(token, duration, key, window, limit)`.
    `return_rates`: whether `incr` also returns the rates. `clock`: as for `banhammer.BanHammer`. Raises `ConfigError`.
    """

    def __init__(
        self,
        bans: Mapping[str, Mapping[str, Any]],
        return_rates: bool = False,
        backend: str | Backend = "memory://",
        *,
        clock: Clock | None = None,
    ) -> None:
        actions: dict[str, Callable[[Escalation], object]] = {}
        policies = [_policy(metric, rule, actions) for metric, rule in bans.items()]
        self._return_rates = return_rates
        self._hammer = _BanHammer(policies, backend=backend, actions=actions, clock=clock)

    def incr(self, token: str, metric: str) -> bool | tuple[bool, dict[str, int]]:
        """Count one event and return whether it passed; with `return_rates`, also the token's rates."""
        decision = self._hammer.hit(token, metric)
        if not self._return_rates:
            return decision.allowed
        return decision.allowed, _rates(decision.rates)

    def now(self, token: str, metric: str, threshold: int = 0) -> int:
        """Return how many units the token has used of the threshold with that index: its meter, rounded up."""
        status = self._hammer.status(token, metric)
        return self._hammer.policies[metric].thresholds[threshold].burst - status.remaining[threshold]

    def status(self, token: str, metric: str) -> Status:
        """Return the current record of `token` under `metric`."""
        return self._hammer.status(token, metric)

    def status_all(self) -> Iterator[Status]:
        """Stream every tracked record."""
        return self._hammer.status_all()

    def reset(self, token: str, metric: str) -> None:
        """Forget `token` under `metric`."""
        self._hammer.reset(token, metric)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the actions raised so far have run; return whether they have."""
        return self._hammer.drain(timeout)

    def close(self) -> None:
        """Let go of threads and connections."""
        self._hammer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _policy(metric: str, rule: Mapping[str, Any], actions: dict[str, Callable[[Escalation], object]]) -> Policy:
    thresholds: Sequence[Mapping[str, Any]] = rule.get("thresholds", ())
    return Policy(
        metric,
        [_threshold(f"bans.{metric}.thresholds.{index}", item, actions) for index, item in enumerate(thresholds)],
        track=tuple(RATES),
    )


def _threshold(where: str, item: Mapping[str, Any], actions: dict[str, Callable[[Escalation], object]]) -> Threshold:
    missing = [name for name in ("limit", "window") if name not in item]
    if missing:
        raise ConfigError(f"{where}.{missing[0]}: it is missing")
    given = item.get("action") or ()
    calls = [given] if callable(given) else list(given)
    wrong = [call for call in calls if not callable(call)]
    if wrong:
        raise ConfigError(f"{where}.action: {wrong[0]!r}; give a callable of (token, duration, key, window, limit)")
    names = [f"{where}.action.{number}" for number in range(len(calls))]
    try:
        threshold = Threshold(item["limit"], item["window"], ban=item.get("action_duration"), actions=names)
    except ConfigError as error:
        raise ConfigError(f"{where}.{mistake}" for mistake in error.mistakes) from error
    for name, call in zip(names, calls, strict=True):
        actions[name] = _adapted(call, threshold)
    return threshold


def _adapted(call: Action, threshold: Threshold) -> Callable[[Escalation], object]:
    def run(escalation: Escalation) -> object:
        duration = to_seconds(threshold.duration(escalation.strikes)) if threshold.ban else 0.0
        return call(escalation.key, duration, escalation.policy, escalation.period, escalation.limit)

    return run


def _rates(rates: Mapping[str, int] | None) -> dict[str, int]:
    return {RATES[window]: count for window, count in (rates or {}).items()}
