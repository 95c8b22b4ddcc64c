"""What both shells share: the rules in force, what a call may ask, and what an answer sets off."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from banhammer import core
from banhammer.backends import Reading
from banhammer.backends.shortcut import ONE, Shortcut, tell
from banhammer.checks import MAX_SPAN, name_list
from banhammer.core import Reply
from banhammer.decision import Decision, rates, rooms
from banhammer.durations import FOREVER, Duration, parse_duration, seconds_until, to_seconds
from banhammer.errors import ConfigError, UnknownPolicyError
from banhammer.escalations import of_ban, of_hit
from banhammer.kinds import decide
from banhammer.lists import KeyList
from banhammer.model import MAX_COST, Ban, Clock, Hit, Mode, Policy, Status
from banhammer.worker import Worker

ListName = Literal["allow", "deny"]


class Rulebook:
    """Policies with their modes settled, lists, and who runs what they escalate to."""

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        mode: Mode,
        allow: Iterable[str] | None,
        deny: Iterable[str] | None,
    ) -> None:
        mistakes: list[str] = []
        allow = name_list(mistakes, "allow", allow, "keys and networks")
        deny = name_list(mistakes, "deny", deny, "keys and networks")
        if mistakes:
            raise ConfigError(mistakes)
        if mode not in ("enforce", "shadow"):
            raise ConfigError(f"mode: {mode!r}; use 'enforce' or 'shadow'")
        self.policies: dict[str, Policy] = {}
        self._lists: dict[str, tuple[KeyList, KeyList]] = {}
        for policy in _policies(policies):
            if policy.name in self.policies:
                raise ConfigError(f"policies.{policy.name}: it is given twice; leave one out")
            self.policies[policy.name] = policy if policy.mode else _with_mode(policy, mode)
            keep, drop = KeyList((*allow, *policy.allow)), KeyList((*deny, *policy.deny))
            if keep or drop:
                self._lists[policy.name] = (keep, drop)
        self.lists = bool(self._lists)
        """Whether any policy has a list."""
        self.worker = Worker({})
        self._kept = False

    def employ(self, worker: Worker, *, kept: bool) -> None:
        """Hand what policies escalate to `worker` from now on; `kept`: the store has written it down by then."""
        self.worker = worker
        self._kept = kept

    def unlisted(self, policy: Policy, shortcut: Shortcut) -> Shortcut:
        """Return `shortcut` for the keys that are on no list of `policy`."""
        if policy.name not in self._lists:
            return shortcut
        return lambda key: None if key.__class__ is not str or self.listed(policy, key) else shortcut(key)

    def plain(self, policy: Policy) -> bool:
        """Return whether an admission needs no second look: enforced, and no lists."""
        return policy.mode != "shadow" and policy.name not in self._lists

    def policy(self, name: str) -> Policy:
        """Return the named policy. Raises `UnknownPolicyError`."""
        try:
            return self.policies[name]
        except (KeyError, TypeError):
            raise UnknownPolicyError(name, self.policies) from None

    def subject(self, key: str, name: str) -> Policy:
        """Return the policy of an operator's verb on `key`. Raises `UnknownPolicyError`, `ValueError`."""
        policy = self.policy(name)
        check_key(key)
        return policy

    def bannable(self, key: str, name: str, reason: str) -> Policy:
        """Return the policy under which `key` may be banned for a `reason`.

        Raises as `subject`, and for an allowlisted key, and a reason that is no string.
        """
        policy = self.subject(key, name)
        if self.listed(policy, key) == "allow":
            raise ValueError(f"key: {key!r} is allowlisted for policy {name!r}; take it off the list before a ban")
        if not isinstance(reason, str):
            raise ValueError(f"reason: {reason!r}; it must be a string")  # noqa: TRY004  # As for a key.
        return policy

    def checked(self, hit: Hit) -> Policy:
        """Return the hit's policy, or raise before anything is touched.

        `UnknownPolicyError`; `ValueError` for an empty or non-string key, or a cost out of range.
        """
        policy = self.policies.get(hit.policy) if isinstance(hit.policy, str) else None
        key, cost = hit.key, hit.cost
        if policy is None or not key or key.__class__ is not str:
            policy = self.subject(key, hit.policy)
            hit.key = str.__str__(key)  # A subclass could bring its own ways of hashing and comparing.
        if cost.__class__ is not int or not 0 < cost <= MAX_COST:
            raise ValueError(f"cost: {cost!r}; it must be an integer from 1 to {MAX_COST:,}")
        return policy

    def all_checked(self, hits: Sequence[Hit]) -> list[Policy]:
        """Return the policy of each hit, or raise for the first with a mistake; see `checked`."""
        known, checked = self.policies, self.checked
        return [
            known[hit.policy]
            if hit.key.__class__ is hit.policy.__class__ is str and hit.key and hit.cost is ONE and hit.policy in known
            else checked(hit)
            for hit in hits
        ]

    def listed(self, policy: Policy, key: str) -> ListName | None:
        """Return the list that the key is on; allow beats deny, at whatever level either stands."""
        lists = self._lists.get(policy.name)
        if lists is None:
            return None
        if key in lists[0]:
            return "allow"
        return "deny" if key in lists[1] else None

    def settle(self, hit: Hit, policy: Policy, reply: Reply) -> Decision:
        """Return the decision on `hit` and queue what it escalates to."""
        if reply.ids:
            self._escalate(hit, policy, reply)
        return decide(policy, hit, reply, shadow=policy.mode == "shadow")

    def banned_by_hand(self, policy: Policy, index: int, ban: Ban, clock: Clock | None) -> None:
        """Queue the actions of the threshold under which an operator banned; in a policy without a ladder, none."""
        escalation, names = of_ban(policy, index, ban, "banned", tell(clock))
        self.worker.submit(escalation, names, kept=self._kept)

    def lifted_by_hand(self, policy: Policy, ban: Ban, clock: Clock | None) -> None:
        """Queue the undoing of whatever the ban's thresholds set off."""
        escalation, names = of_ban(policy, ban.threshold, ban, "lifted", tell(clock))
        self.worker.submit(escalation, names, kept=self._kept)

    def _escalate(self, hit: Hit, policy: Policy, reply: Reply) -> None:
        for escalation, names in of_hit(hit, policy, reply):
            self.worker.submit(escalation, names, kept=self._kept and not reply.degraded)


def check_key(key: object) -> None:
    """Raise `ValueError` unless `key` is a non-empty string."""
    if not isinstance(key, str):
        raise ValueError(f"key: {key!r}; it must be a string")  # noqa: TRY004  # The contract: a ValueError.
    if not key:
        raise ValueError("key: ''; it must not be empty")


def manual_ban(policy: Policy, duration: Duration | None, threshold: int | None) -> tuple[int, int | None]:
    """Return the threshold's index and the duration (us, `None`: its ladder) of a ban by hand.

    Raises `ValueError` for a threshold that does not exist, or where neither gives a duration, or one that
    is no duration or longer than ten years.
    """
    if threshold is None:
        index = next((index for index, level in enumerate(policy.thresholds) if level.ban), 0)
    elif isinstance(threshold, bool) or not isinstance(threshold, int) or not 0 <= threshold < len(policy.thresholds):
        raise ValueError(f"threshold: {threshold!r}; policy {policy.name!r} has 0 to {len(policy.thresholds) - 1}")
    else:
        index = threshold if policy.top >= 0 else 0
    if duration is not None:
        micros = parse_duration(duration, forever=True)
        if MAX_SPAN < micros < FOREVER:
            raise ValueError(f"duration: {duration!r}; at most ten years, or forever")
        return index, micros
    if not policy.thresholds[index].ban:
        raise ValueError(
            f"duration: none given, and threshold {index} of policy {policy.name!r} has no ladder; give one"
        )
    return index, None


def status_of(policy: Policy, reading: Reading) -> Status:
    """Return what an operator sees of a record."""
    record, now = reading.record, reading.now
    banned = now < record.banned_until
    return Status(
        key=reading.key,
        policy=policy.name,
        strikes=record.strikes,
        banned_until=to_seconds(record.banned_until) if banned else None,
        level=min(record.level, len(policy.thresholds) - 1) if banned else None,
        tats=tuple(tat / 1e6 if tat > now else 0.0 for tat in record.tats),
        over=tuple(bool(record.over >> index & 1) for index in range(len(record.tats))),
        remaining=tuple(rooms(policy, record, now)),
        reset_after=seconds_until(core.drained_at(record), now),
        rates=rates(policy, record, now),
        ban=reading.ban,
    )


def _policies(given: object) -> list[Policy]:
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)) else None
    if found is None or not all(isinstance(policy, Policy) for policy in found):
        raise ConfigError(f"policies: {given!r}; give a list of Policy")
    return found


def _with_mode(policy: Policy, mode: Mode) -> Policy:
    settled = copy.copy(policy)
    object.__setattr__(settled, "mode", mode)
    return settled
