"""Callers that see their own count in every answer, so that an answer to anybody else would show."""

from __future__ import annotations

import asyncio
from typing import Any

from banhammer import AsyncBanHammer, BanHammer, Escalation, Policy, Threshold
from banhammer.backends import Backend, adopt, open_backend
from histories_crew import PATIENCE, in_threads

ROOM = 100_000
RULES = [
    Policy("api", [Threshold(ROOM, "60d")]),
    Policy("scarce", [Threshold(150, "60d")]),
    Policy("trap", [Threshold(1, "60d", burst=0, ban="1d", actions=["note"])]),
    Policy("slow", [Threshold(1, "60d"), Threshold(100, "60d", ban="1d", actions=["note"])]),
]


def settings(backend: object, ran: list[Escalation] | None = None) -> dict[str, Any]:
    """Return a hammer's arguments beside the policies; its actions append to `ran`.

    Without it a store that keeps escalations has no worker here, so that all connections are those of hits.
    """
    arguments = {"backend": backend, "deadline": PATIENCE, "actions": {"note": (ran if ran is not None else []).append}}
    keeps = adopted(backend).traits.durable
    return arguments | ({"worker": "external"} if keeps and ran is None else {})


def adopted(backend: object) -> Backend:
    return open_backend(backend) if isinstance(backend, str) else adopt(backend)


def count_down(hammer: BanHammer, name: str, start: int, hits: int = 40) -> None:
    """Hit one's own key and see one's own count in every answer; `start` units make it unlike all others'."""
    room = hammer.hit(name, "api", start).remaining
    assert room == ROOM - start
    for number in range(1, hits + 1):
        decision = hammer.hit(name, "api")
        assert not decision.degraded
        assert (decision.key, decision.remaining) == (name, room - number)


def count_down_in_threads(hammer: BanHammer, process: int, width: int = 4) -> None:
    in_threads(lambda thread: count_down(hammer, f"{process}-{thread}", 1_000 * process + 100 * thread + 1), width)


async def count_down_awaited(hammer: AsyncBanHammer, name: str, start: int, hits: int = 25) -> None:
    room = (await hammer.hit(name, "api", start)).remaining
    assert room == ROOM - start
    for number in range(1, hits + 1):
        decision = await hammer.hit(name, "api")
        assert not decision.degraded
        assert (decision.key, decision.remaining) == (name, room - number)


async def count_down_in_tasks(hammer: AsyncBanHammer, process: int, width: int = 8) -> None:
    tasks = [count_down_awaited(hammer, f"{process}-{task}", 1_000 * process + 100 * task + 1) for task in range(width)]
    await asyncio.gather(*tasks)
