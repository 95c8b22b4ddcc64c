"""A batch: hits on their way to the store, and their decisions in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast, overload

from banhammer.core import Reply
from banhammer.decision import Calm, Decision
from banhammer.kinds import admitted, listed
from banhammer.model import Hit, Policy
from banhammer.rulebook import Rulebook


class Batch:
    """One call's hits on their way: what the lists answer, what the store is asked, and the answers in order."""

    __slots__ = ("_answers", "_rules", "_stop", "asked", "at")

    def __init__(self, rules: Rulebook, hits: Sequence[Hit], *, stop: bool) -> None:
        policies = rules.all_checked(hits)
        self._rules = rules
        self._stop = stop
        self._answers: list[Decision | Calm | None] = [None] * len(hits)
        self.asked: list[Hit] = []
        self.at: list[int] = []
        if not rules.lists:
            self.asked += hits
            self.at += range(len(hits))
            return
        for index, (hit, policy) in enumerate(zip(hits, policies, strict=True)):
            which = rules.listed(policy, hit.key)
            if which is None:
                self.asked.append(hit)
                self.at.append(index)
                continue
            decision = listed(policy, hit.key, which, shadow=policy.mode == "shadow")
            self._answers[index] = decision
            if stop and not decision:
                break

    def settled(self, replies: Sequence[Reply | None]) -> list[Decision | Calm | None]:
        """Return the decisions in the order of the hits; with stop, `None` behind the first denial."""
        rules, answers = self._rules, self._answers
        for index, hit, reply in zip(self.at, self.asked, replies, strict=True):
            if reply is None:
                break
            decision = reply if isinstance(reply, Decision) else rules.settle(hit, rules.policies[hit.policy], reply)
            answers[index] = decision
            if self._stop and not decision:
                return answers[: index + 1] + [None] * (len(answers) - index - 1)
        return answers


class Decisions(Sequence["Decision | None"]):
    """The decisions of a batch, in the order of its hits; `None` for what was not decided.

    A plain admission is kept as its calm record and becomes a `Decision` when it is read.
    """

    __slots__ = ("_answers", "_keys", "_now", "_policy")

    def __init__(
        self,
        answers: list[Decision | Calm | None],
        keys: Sequence[str] = (),
        policy: Policy | None = None,
        now: int = 0,
    ) -> None:
        self._keys = keys
        self._answers = answers
        self._policy = policy
        self._now = now

    def __len__(self) -> int:
        return len(self._answers)

    @overload
    def __getitem__(self, index: int) -> Decision | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[Decision | None]: ...
    def __getitem__(self, index: int | slice) -> Decision | list[Decision | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self._answers)))]
        answer = self._answers[index]
        if answer is None or isinstance(answer, Decision):
            return answer
        decision = admitted(cast(Policy, self._policy), self._keys[index], self._now, answer)
        self._answers[index] = decision
        return decision

    def __iter__(self) -> Iterator[Decision | None]:
        if self._policy is None:  # All are made.
            return iter(cast("list[Decision | None]", self._answers))
        return (self[index] for index in range(len(self._answers)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (Decisions, list, tuple)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
