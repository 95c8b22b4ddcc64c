"""An independent, literal reading of the decision rules: slow, obvious, and sharing no code with the core.

The step numbers are those of the semantics in the design. Policies are the model's own values; everything
else is plain dicts and integers of microseconds.

Where the text leaves room, this reading takes:

- A listed key never reaches the store, so its `rates` are `None` and its `strikes` 0; a denylisted key is
  banned for ever (`banned_until`, `retry_after` and `reset_after` are infinite).
- An allowed guard describes the state as it stands: it is no hit, so it counts in no window.
- `reset_after` looks at the ban and the meters only, not at strikes or windows.
- A level that a shortened policy no longer has reads as its last threshold.
- The details of a ban (origin, reason) are those of the event that made it or last moved its end.
- A lapsed ban is no longer read, but its end and level stay in the record until its strikes lapse: after a
  clock stepped back it is in force again. An `unban` clears the level at once.
- What a denial cache swallowed is owed by the ban thresholds that were awake all the while: above the level that it saw
  in force, and above that of a ban which has been in force since the first of it. A flush is a hit of no units: it
  counts in no window, and no throttle can deny it.
- `reset(strikes=False)` empties the meters; the ban, the strikes and the windows stay.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

from banhammer.checks import MAX_SPAN
from banhammer.durations import FOREVER, parse_duration
from banhammer.errors import UnknownPolicyError
from banhammer.model import MAX_COST, MAX_STRIKES, Hit, Policy
from reference_decision import (
    Answer,
    Escalations,
    State,
    banned_until,
    count_rates,
    decide,
    decide_listed,
    empty_after,
    end_of,
    goes_over,
    is_banned,
    ladder,
    new_tat,
    room_left,
    seconds,
)

ONE_SECOND = 1_000_000

Debt = tuple[int, int, int]
"""What a denial cache swallowed: `late` units, `span` since the first, and the level of the ban that it saw, or -1."""


class ReferenceHammer:
    """Every verb that decides or changes a record, at an explicit `now`, over plain dicts."""

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        mode: str = "enforce",
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
    ) -> None:
        self.policies = {policy.name: policy for policy in policies}
        self.mode = mode
        self.allow = set(allow)
        self.deny = set(deny)
        self.states: dict[tuple[str, str], State] = {}
        self.details: dict[tuple[str, str], State] = {}

    def copy(self) -> ReferenceHammer:
        """Return a hammer with the same policies and a state of its own."""
        other = ReferenceHammer(self.policies.values(), mode=self.mode, allow=self.allow, deny=self.deny)
        other.states = dict(self.states)  # Each value is replaced, never changed.
        other.details = dict(self.details)
        return other

    def hit(self, key: str, policy: str, cost: int, now: int, owed: Debt | None = None) -> Answer:
        rules = self._checked(key, policy, cost)
        if listed := self._listed(key, rules):
            return decide_listed(key, rules, listed, self._is_shadow(rules))
        state = self._load(key, rules, now)
        return self._count(key, rules, state, cost, now, owed)

    def flush(self, key: str, policy: str, now: int, owed: Debt) -> Answer:
        """Charge only what is owed."""
        rules = self._checked(key, policy, 1)
        return self._count(key, rules, self._load(key, rules, now), 0, now, owed)

    def peek(self, key: str, policy: str, cost: int, now: int) -> Answer:
        """Return what `hit` would, from a copy; it raises no escalation."""
        answer = self.copy().hit(key, policy, cost, now)
        answer["escalations"] = []
        return answer

    def guard(self, key: str, policy: str, cost: int, now: int) -> Answer:
        """Be a hit if a ban is in force or a throttle has no room for `cost`; else store nothing."""
        rules = self._checked(key, policy, cost)
        if listed := self._listed(key, rules):
            return decide_listed(key, rules, listed, self._is_shadow(rules))
        state = self._load(key, rules, now)
        throttles = [(i, each) for i, each in enumerate(rules.thresholds) if not each.ban]
        full = any(goes_over(state["meters"][i], each, cost, now) for i, each in throttles)
        if is_banned(state, now) or full:
            return self._count(key, rules, state, cost, now)
        return decide(key, rules, state, cost, now, "allowed", [], self._is_shadow(rules))

    def hit_many(self, hits: Iterable[Hit], stop: bool, now: int) -> list[Answer | None]:
        """Decide in order; with `stop`, what follows the first denial is `None` and not charged."""
        hits = list(hits)
        for hit in hits:
            self._checked(hit.key, hit.policy, hit.cost)
        answers: list[Answer | None] = []
        stopped = False
        for hit in hits:
            if stopped:
                answers.append(None)
                continue
            verb = self.guard if hit.guard else self.hit
            answer = verb(hit.key, hit.policy, hit.cost, now)
            answers.append(answer)
            if stop and not answer["allowed"]:
                stopped = True
        return answers

    def ban(
        self,
        key: str,
        policy: str,
        duration: int | float | str | None = None,
        threshold: int | None = None,
        reason: str = "",
        *,
        now: int,
    ) -> Answer:
        rules = self._checked(key, policy, 1)
        if self._listed(key, rules) == "allow":
            raise ValueError(f"{key!r} is allowlisted")
        index = threshold
        if index is None:
            index = next((i for i, each in enumerate(rules.thresholds) if each.ban), None)
        elif not 0 <= index < len(rules.thresholds):
            raise ValueError(f"no threshold {threshold!r}")
        if not any(each.ban for each in rules.thresholds):
            index = None  # A policy without a ladder: its level is then 0, and no action runs.
        micros = self._given(duration)
        if micros is None and (index is None or not rules.thresholds[index].ban):
            raise ValueError("a threshold without a ladder needs a duration")
        state = self._load(key, rules, now)
        was_banned = is_banned(state, now)
        if not was_banned:
            state["strikes"] = min(state["strikes"] + 1, MAX_STRIKES)
        if micros is None and index is not None:
            micros = ladder(rules.thresholds[index], state["strikes"])
        assert micros is not None
        level = 0 if index is None else index
        state["level"] = max(state["level"], level) if was_banned else level
        self._lengthen(key, rules, state, was_banned, end_of(now, micros), now, origin="manual", reason=reason)
        self.states[key, rules.name] = state
        answer = self._describe_ban(key, rules, state)
        answer["escalations"] = [] if index is None else [(index, "banned")]
        return answer

    def unban(self, key: str, policy: str, now: int) -> Answer | None:
        rules = self._checked(key, policy, 1)
        state = self._load(key, rules, now)
        if not is_banned(state, now):
            return None
        answer = self._describe_ban(key, rules, state)
        answer["escalations"] = [(state["level"], "lifted")]
        state["banned_until"] = now
        state["level"] = 0
        self.states[key, rules.name] = state
        return answer

    def reset(self, key: str, policy: str, strikes: bool = True, *, now: int) -> None:
        """Forget the key, or its meters only; `now` is asked for as everywhere, and decides nothing here."""
        rules = self._checked(key, policy, 1)
        if strikes:
            self.states.pop((key, rules.name), None)
            self.details.pop((key, rules.name), None)
            return
        if (key, rules.name) in self.states:  # The meters only: not even what has lapsed is written down.
            self.states[key, rules.name] = {**self.states[key, rules.name], "meters": {}}

    def status(self, key: str, policy: str, now: int) -> Answer:
        """Return the current record in full; nothing is stored."""
        rules = self._checked(key, policy, 1)
        state = self._load(key, rules, now)
        meters = state["meters"]
        return {
            "key": key,
            "policy": rules.name,
            "strikes": state["strikes"],
            "banned_until": banned_until(state, now),
            "level": state["level"] if is_banned(state, now) else None,
            "tats": tuple(each["tat"] / 1e6 if each["tat"] > now else 0.0 for each in meters.values()),
            "over": tuple(each["over"] for each in meters.values()),
            "remaining": tuple(room_left(meters[i], each, now) for i, each in enumerate(rules.thresholds)),
            "reset_after": seconds(empty_after(state, now)),
            "rates": count_rates(rules, state, now),
            "ban": self._describe_ban(key, rules, state) if is_banned(state, now) else None,
        }

    def bans(self, now: int) -> list[Answer]:
        """Return every ban in force, the one that ends first first."""
        found = []
        for key, name in self.states:
            state = self._load(key, self.policies[name], now)
            if is_banned(state, now):
                found.append(self._describe_ban(key, self.policies[name], state))
        return sorted(found, key=lambda each: (each["until"], each["key"], each["policy"]))

    def _checked(self, key: object, policy: str, cost: object) -> Policy:
        if not isinstance(key, str) or not key:
            raise ValueError(f"a key is a non-empty string, not {key!r}")
        if policy not in self.policies:
            raise UnknownPolicyError(policy, self.policies)
        if type(cost) is not int or not 1 <= cost <= MAX_COST:
            raise ValueError(f"cost is an integer from 1 to {MAX_COST}, not {cost!r}")
        return self.policies[policy]

    @staticmethod
    def _given(duration: int | float | str | None) -> int | None:
        micros = None if duration is None else parse_duration(duration, forever=True)
        if micros is not None and MAX_SPAN < micros < FOREVER:
            raise ValueError(f"{duration!r} is longer than ten years")
        return micros

    def _listed(self, key: str, policy: Policy) -> str | None:
        """Say which list holds the key; allow beats deny, at whatever level either stands (step 1)."""
        if key in self.allow or key in policy.allow:
            return "allow"
        if key in self.deny or key in policy.deny:
            return "deny"
        return None

    def _is_shadow(self, policy: Policy) -> bool:
        return (policy.mode or self.mode) == "shadow"

    def _load(self, key: str, policy: Policy, now: int) -> State:
        """Return the record as it reads at `now` (step 2), a copy that may be changed."""
        nothing: State = {"meters": {}, "strikes": 0, "banned_until": 0, "level": 0, "hits": []}
        state: State = copy.deepcopy(self.states.get((key, policy.name), nothing))
        state["level"] = min(state["level"], len(policy.thresholds) - 1)
        if state["banned_until"] != FOREVER and now >= state["banned_until"] + policy.forgive_after:
            state["strikes"] = 0
            state["banned_until"] = 0
            state["level"] = 0
        meters = {}
        for index, threshold in enumerate(policy.thresholds):
            meter = state["meters"].get(index, {"tat": 0, "over": False})
            most = now + threshold.tolerance
            if threshold.ban and meter["tat"] > most + ONE_SECOND:
                meter["tat"] = 0
            elif meter["tat"] > most:
                meter["tat"] = most
            if meter["tat"] <= now:
                meter["over"] = False
            meters[index] = meter
        state["meters"] = meters
        return state

    def _count(self, key: str, policy: Policy, state: State, cost: int, now: int, owed: Debt | None = None) -> Answer:
        """Take steps 3 to 7 with a loaded record, keep it, and return the decision."""
        if policy.track and cost:
            state["hits"].append(now)
        was_banned = is_banned(state, now)
        if owed is not None:
            self._charge_debt(policy, state, owed, now)

        # Step 3: ban thresholds count attempts; those up to the level of a ban in force sleep.
        tripped = []
        for index, threshold in enumerate(policy.thresholds):
            if not threshold.ban or (was_banned and index <= state["level"]):
                continue
            meter = state["meters"][index]
            if goes_over(meter, threshold, cost, now):
                tripped.append(index)
                meter["tat"] = 0
            else:
                meter["tat"] = new_tat(meter, threshold, cost, now)

        if tripped:
            verdict, escalations = (
                "banned",
                self._trip(key, policy, state, was_banned, tripped, now),
            )  # Step 4.
        elif was_banned:
            verdict, escalations = "banned", []  # Step 5.
        else:
            verdict, escalations = self._throttle(policy, state, cost, now)  # Steps 6 and 7.
        self.states[key, policy.name] = state
        return decide(key, policy, state, cost, now, verdict, escalations, self._is_shadow(policy))

    @staticmethod
    def _charge_debt(policy: Policy, state: State, owed: Debt, now: int) -> None:
        """Put `max(tat, now - span) + late * T` on every ban threshold that was awake."""
        late, span, level = owed
        for index, threshold in enumerate(policy.thresholds):
            slept = index <= level or (index <= state["level"] and is_banned(state, now - span))
            if threshold.ban and not slept:
                meter = state["meters"][index]
                meter["tat"] = max(meter["tat"], now - span) + late * threshold.interval

    def _trip(
        self, key: str, policy: Policy, state: State, was_banned: bool, tripped: list[int], now: int
    ) -> Escalations:
        if not was_banned:
            state["strikes"] = min(state["strikes"] + 1, MAX_STRIKES)
        ends = [end_of(now, ladder(policy.thresholds[index], state["strikes"])) for index in tripped]
        state["level"] = max(tripped)  # Only higher ones were awake, so this is never below a level in force.
        self._lengthen(key, policy, state, was_banned, max(ends), now, origin="hit", reason="")
        return [(index, "banned") for index in tripped]

    def _lengthen(
        self,
        key: str,
        policy: Policy,
        state: State,
        was_banned: bool,
        end: int,
        now: int,
        *,
        origin: str,
        reason: str,
    ) -> None:
        """Move the end to the latest of what it was and `end`, never back, and keep the details."""
        if was_banned and end <= state["banned_until"]:
            return
        since = self.details[key, policy.name]["since"] if was_banned else now
        self.details[key, policy.name] = {"since": since, "origin": origin, "reason": reason}
        state["banned_until"] = end

    @staticmethod
    def _throttle(policy: Policy, state: State, cost: int, now: int) -> tuple[str, Escalations]:
        throttles = [(i, each, state["meters"][i]) for i, each in enumerate(policy.thresholds) if not each.ban]
        # Step 6: throttles count admissions, all or nothing.
        over = [each for each in throttles if goes_over(each[2], each[1], cost, now)]
        escalations = []
        for index, threshold, meter in over:
            if cost > threshold.burst:
                continue
            if not meter["over"]:
                meter["over"] = True
                escalations.append((index, "throttled"))
        if over:
            return "throttled", escalations
        # Step 7.
        for _, threshold, meter in throttles:
            meter["tat"] = new_tat(meter, threshold, cost, now)
        return "allowed", []

    def _describe_ban(self, key: str, policy: Policy, state: State) -> Answer:
        details = self.details[key, policy.name]
        return {
            "key": key,
            "policy": policy.name,
            "threshold": state["level"],
            "strikes": state["strikes"],
            "since": details["since"] / 1e6,
            "until": math.inf if state["banned_until"] == FOREVER else state["banned_until"] / 1e6,
            "origin": details["origin"],
            "reason": details["reason"],
        }
