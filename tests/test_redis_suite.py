"""What the conformance kit cannot know of Redis: the server's own time, and a denial cache that keeps up with it."""

from __future__ import annotations

import pytest

from redis_rules import KEY, Note
from redis_shells import Make
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)


def test_without_a_clock_the_servers_time_decides_and_the_denial_cache_keeps_up(make: Make, note: Note) -> None:
    here, there = make(), make()
    told = [here.hit(KEY, "trap") for _ in range(5)]
    assert [(each.verdict, each.strikes, each.degraded) for each in told] == [("banned", 1, False)] * 5
    assert [each.tripped for each in told] == [(0,), (), (), (), ()]
    assert told[0].banned_until == pytest.approx(told[-1].banned_until, abs=1e-6)
    assert there.unban(KEY, "trap") is not None
    until(lambda: here.guard(KEY, "trap").verdict == "allowed", "lifted here too", seconds=3)
    assert here.hit(KEY, "trap").strikes == 2
    here.unban(KEY, "trap")
    assert here.guard(KEY, "trap")
    assert here.drain(5)
    assert there.drain(5)
    assert [each.verdict for each in note.seen] == ["banned", "lifted", "banned", "lifted"]
