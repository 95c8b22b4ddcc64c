"""What stands around every shared store: the denial cache before it, and each policy's way out when it is away.

A store that is away costs no caller more than the deadline, and no exception. The talk with the store is a generator:
it yields what to ask and is sent the outcomes, so that threads and tasks share every rule here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from banhammer.backends import Now, Policies
from banhammer.backends.denials import DenialCache
from banhammer.backends.fallback import Fallback
from banhammer.backends.packing import Told
from banhammer.backends.shortcut import Listener, Shortcut, tell
from banhammer.core import Owed, Reply
from banhammer.errors import BackendError
from banhammer.model import Ban, Clock, Hit, Policy


class Charge:
    """One hit on its way to a shared store since the local `at`, with what the denial cache swallowed before it."""

    __slots__ = ("at", "hit", "owed", "peek", "policy")

    def __init__(self, hit: Hit, policy: Policy, peek: bool = False, owed: Owed | None = None, at: int = 0) -> None:
        self.hit = hit
        self.policy = policy
        self.peek = peek
        self.owed = owed
        self.at = at


Outcome = Reply | BackendError
"""What became of a charge; an error: whether it was counted is not known."""
Talk = Generator[list[Charge], Sequence[Outcome], list[Reply | None]]


class _Watch(NamedTuple):
    policy: Policy
    clock: Clock | None
    listener: Listener


class Front:
    """Answers before the store is asked, and where it cannot be.

    `denial_cache`: whether denials are cached; `None`: unless the clock is injected. `share`: among how many
    processes the `local` fallback divides the limits. `wake`: is called when there is something to tend to: a flush, or
    a store that is away.
    """

    def __init__(self, *, denial_cache: bool | None, share: int, wake: Callable[[], object] = bool) -> None:
        self.fallback = Fallback(share)
        self._wake = wake
        self._caches = denial_cache
        self._denials = DenialCache()
        self._denial_tables = self._denials.tables
        self._known_bans = self.fallback.known_bans
        self._watched: dict[str, _Watch] = {}

    def shortcut(self, policy: Policy, clock: Clock | None, listener: Listener) -> Shortcut | None:
        """Return the short cut of the denial cache for one unit under `policy`, or `None` where it is off."""
        if policy.mode == "shadow" or not self._caching(clock):
            return None
        self._watched[policy.name] = _Watch(policy, clock, listener)
        return self._denials.shortcut(policy, clock)

    def talk(self, hits: Sequence[Hit], policies: Policies, *, now: Now, stop: bool, peek: bool) -> Talk:
        """Decide `hits` in order; with `stop`, up to the first denial, asking only for what goes before it."""
        caching = self._caching(now) and not peek
        if stop:
            return self._until_denied(hits, policies, now, caching=caching, peek=peek)
        return self._all(hits, policies, now, peek=peek)

    def before(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply | Charge:
        """Return the reply to a hit that the store need not be asked for, or what to ask it."""
        if peek or not self._caching(now):
            return Charge(hit, policy, peek)
        at = tell(now)
        return self._asked(hit, policy, at) if self._denials.holds(policy) else Charge(hit, policy, False, None, at)

    def _asked(self, hit: Hit, policy: Policy, at: int) -> Reply | Charge:
        """Return the cached denial of a hit at the local `at`, or what to ask the store, with what it was not told."""
        denials = self._denials
        reply = denials.answer(hit, policy, at)
        return reply or Charge(hit, policy, False, denials.owed(hit.key, policy, at), at)

    def after(self, charge: Charge, outcome: Outcome, now: Now) -> Reply:
        """Return the reply that the outcome means, and take note of it."""
        if type(outcome) is Told and self._calm:  # type: ignore[comparison-overlap]
            return outcome
        if isinstance(outcome, BackendError):
            self._wake()
            return self.fallback.reply(charge.hit, charge.policy, now, peek=charge.peek)
        if charge.peek or outcome.degraded:
            return outcome
        if outcome.verdict != "allowed" or self._knows(charge):
            self._learn(charge, outcome, now)
        elif self._denials.holds(charge.policy):  # Of other keys: the keeper is wanted, and may have failed to begin.
            self._wake()
        return outcome

    def flush(self) -> Iterator[tuple[Charge, Clock | None]]:
        """Yield a charge for each key whose swallowed hits have waited long enough."""
        for policy, clock, _ in list(self._watched.values()):
            at = tell(clock)
            for key, owed in self._denials.due(policy, at):
                yield Charge(Hit(key, policy.name, cost=0), policy, owed=owed, at=at), clock

    def flushed(self, charge: Charge, outcome: Outcome) -> None:
        """Take what became of a charge of `flush`: a ban that it tripped is cached and told to the listener."""
        if isinstance(outcome, BackendError) or not outcome.tripped or charge.owed is None:
            return
        _, clock, listener = self._watched[charge.policy.name]
        self._learn(charge, outcome, clock)
        listener(Hit(charge.hit.key, charge.policy.name, cost=charge.owed.late), charge.policy, outcome)

    @property
    def pending(self) -> bool:
        """Whether `flush` may have something to yield."""
        return any(self._denials.holds(watch.policy) for watch in list(self._watched.values()))

    def banned(self, policy: Policy, ban: Ban) -> None:
        """Take note of a ban by hand: while the store is away, it is enforced here too."""
        self._denials.forget(ban.key, policy)
        self.fallback.know(policy, ban)

    def forget(self, key: str, policy: Policy, *, ban: bool = True) -> None:
        """Drop what is known here of a key that was lifted or reset; without `ban`, its ban stays known."""
        self._denials.forget(key, policy)
        if ban:
            self.fallback.forget(key, policy)

    @property
    def _calm(self) -> bool:
        """Whether plain admissions leave nothing to learn, and have nothing to overtake."""
        return not (any(self._denial_tables) or self._known_bans)

    def _caching(self, now: Now) -> bool:
        return now is None if self._caches is None else self._caches

    def _all(self, hits: Sequence[Hit], policies: Policies, now: Now, *, peek: bool) -> Talk:
        replies: list[Reply | None] = []
        charges: list[Charge] = []
        places: list[int] = []
        caching = not peek and self._caching(now)
        at = tell(now) if caching else 0
        if hits and not (caching and any(self._denial_tables)):
            charges = [Charge(hit, policies[hit.policy], peek, None, at) for hit in hits]
            outcomes = yield charges
            if set(map(type, outcomes)) == {Told} and self._calm:
                return list(outcomes)  # type: ignore[arg-type]
            after = self.after
            return [after(charge, outcome, now) for charge, outcome in zip(charges, outcomes, strict=True)]
        for index, hit in enumerate(hits):
            found = self._asked(hit, policies[hit.policy], at) if caching else Charge(hit, policies[hit.policy], peek)
            if isinstance(found, Reply):
                replies.append(found)
                continue
            replies.append(None)
            charges.append(found)
            places.append(index)
        if charges:
            outcomes = yield charges
            after = self.after
            for index, charge, outcome in zip(places, charges, outcomes, strict=True):
                replies[index] = after(charge, outcome, now)
        return replies

    def _until_denied(self, hits: Sequence[Hit], policies: Policies, now: Now, *, caching: bool, peek: bool) -> Talk:
        replies: list[Reply | None] = []
        while len(replies) < len(hits):
            rest = hits[len(replies) :]
            size = self._unknown(rest, policies, tell(now)) if caching else len(rest)
            # What the cache denies ends the batch: it is asked alone, and counted only when its turn has come.
            run = rest[: size or 1]
            found = yield from self._run(run, policies, now, caching=caching, peek=peek)
            replies += found
            if _ends(policies[run[len(found) - 1].policy], found[-1]):
                break
        return replies + [None] * (len(hits) - len(replies))

    def _run(
        self, hits: Sequence[Hit], policies: Policies, now: Now, *, caching: bool, peek: bool
    ) -> Generator[list[Charge], Sequence[Outcome], list[Reply]]:
        """Decide the beginning of `hits`, which is shorter where one was denied or could not be asked."""
        if caching and len(hits) == 1:
            reply = self._denials.answer(hits[0], policies[hits[0].policy], tell(now))
            if reply is not None:
                return [reply]
        at = tell(now) if caching else 0
        charges = []
        for hit in hits:
            policy = policies[hit.policy]
            owed = self._denials.owed(hit.key, policy, at) if caching else None
            charges.append(Charge(hit, policy, peek=peek, owed=owed, at=at))
        outcomes = yield charges
        for charge in charges[len(outcomes) :]:  # Never asked: what it would have told is still to be told.
            if charge.owed is not None:
                self._denials.untold(charge.hit.key, charge.policy, charge.owed, at)
        replies: list[Reply] = []
        for charge, outcome in zip(charges, outcomes, strict=False):
            reply = self.after(charge, outcome, now)
            replies.append(reply)
            if _ends(charge.policy, reply):  # Also where the store could not be asked: nothing behind is decided.
                break
        return replies

    def _unknown(self, hits: Sequence[Hit], policies: Policies, now: int) -> int:
        """Return how many hits stand before the first that the cache denies."""
        for index, hit in enumerate(hits):
            if self._denials.answers(hit, policies[hit.policy], now):
                return index
        return len(hits)

    def _knows(self, charge: Charge) -> bool:
        """Return whether there is anything to forget of the key of a hit that was allowed."""
        key, policy = charge.hit.key, charge.policy
        return self.fallback.knows(key, policy) or self._denials.knows(key, policy)

    def _learn(self, charge: Charge, reply: Reply, now: Now) -> None:
        self.fallback.learn(charge.hit, charge.policy, reply)
        if not self._caching(now):
            return
        if charge.owed is not None and not reply.counted:
            self._denials.untold(charge.hit.key, charge.policy, charge.owed, charge.at)
        else:
            ahead = reply.now - tell(now) if now is None else 0  # An injected clock is the store's too.
            self._denials.learn(charge.hit, charge.policy, reply, charge.at, ahead)
        self._wake()


def _ends(policy: Policy, reply: Reply) -> bool:
    """Return whether the reply ends a batch with `stop`."""
    return reply.verdict != "allowed" and policy.mode != "shadow"
