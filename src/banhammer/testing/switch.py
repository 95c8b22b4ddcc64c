"""The switch for all limits of a process: it swaps the code of the hammers' deciding verbs, and puts it back.

The code inside the functions is swapped, not the functions, so that a verb that was taken from a hammer before, as in
`check = hammer.hit`, is switched too. While nobody switches, nothing of this is on the way of a hit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, Final

from banhammer.backends.shortcut import tell
from banhammer.batch import Decisions
from banhammer.core import Reply
from banhammer.decision import Decision
from banhammer.hammer import AsyncBanHammer, BanHammer
from banhammer.kinds import decide
from banhammer.model import Hit, Record
from banhammer.shell import Shell


class _Wish:
    """What one context wants of the switch; contexts are told apart by identity."""

    __slots__ = ("off",)

    def __init__(self, *, off: bool) -> None:
        self.off = off


_lock: Final = threading.Lock()
_wishes: Final[list[_Wish]] = []


@contextmanager
def limits_off() -> Iterator[None]:
    """Let every hammer of this process allow everything inside the context, without asking a store.

    `hit`, `guard`, `peek` and `hit_many` of hammers made before and inside, of every thread. An unknown policy, a bad
    key and a bad cost are raised as ever; the operators' verbs are as they were.
    """
    with _wished(_Wish(off=True)):
        yield


@contextmanager
def limits_on() -> Iterator[None]:
    """Let hammers decide inside the context although limits are off around it; of several, the last entered holds."""
    with _wished(_Wish(off=False)):
        yield


@contextmanager
def _wished(wish: _Wish) -> Iterator[None]:
    with _lock:
        _wishes.append(wish)
        _settle()
    try:
        yield
    finally:
        with _lock:
            _wishes.remove(wish)  # Not the last one always: threads come and go in any order.
            _settle()


def _settle() -> None:
    off = bool(_wishes) and _wishes[-1].off
    for verb, limited, unlimited in _VERBS:
        verb.__code__ = unlimited if off else limited


def allow(shell: Shell, key: str, policy_name: str, cost: int) -> Decision:
    """Return the decision that allows a hit, as if its key were new. Raises as `BanHammer.hit`."""
    hit = Hit(key, policy_name, cost=cost)
    policy = shell._rules.checked(hit)
    record = Record((0,) * len(policy.thresholds))
    return decide(policy, hit, Reply("allowed", tell(shell._clock), record), shadow=policy.mode == "shadow")


def allow_all(shell: Shell, hits: Iterable[Hit]) -> Decisions:
    """Return the decisions that allow `hits`. Raises as `BanHammer.hit_many`."""
    return Decisions([allow(shell, hit.key, hit.policy, hit.cost) for hit in hits])


# What follows runs among the globals of the functions whose code it replaces, so it imports what it needs.


def _one(self: Shell, key: str, policy: str, cost: int = 1) -> Decision:
    from banhammer.testing import switch

    return switch.allow(self, key, policy, cost)


async def _one_awaited(self: Shell, key: str, policy: str, cost: int = 1) -> Decision:
    from banhammer.testing import switch

    return switch.allow(self, key, policy, cost)


def _many(self: Shell, hits: Iterable[Hit], stop: bool = False) -> Decisions:
    from banhammer.testing import switch

    return switch.allow_all(self, hits)


async def _many_awaited(self: Shell, hits: Iterable[Hit], stop: bool = False) -> Decisions:
    from banhammer.testing import switch

    return switch.allow_all(self, hits)


def _verbs(shell: type[Shell], one: Any, many: Any) -> Iterator[tuple[FunctionType, CodeType, CodeType]]:
    """Yield each deciding verb of a shell, its own code, and the code that allows everything."""
    for name, unlimited in {"hit": one, "guard": one, "peek": one, "hit_many": many}.items():
        verb: FunctionType = vars(shell)[name]
        yield verb, verb.__code__, unlimited.__code__


_VERBS: Final = (*_verbs(BanHammer, _one, _many), *_verbs(AsyncBanHammer, _one_awaited, _many_awaited))
