"""Escalations run their actions beside the path of hits: in order, isolated, and on the right loop."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, ConfigError, Escalation, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.testing import ManualClock
from servers.waiting import until

KEY = "203.0.113.9"
START = 1_750_000_000_000_000


def trap(*actions: str, **settings: Any) -> Policy:
    """Return a policy that bans anybody's first hit."""
    return Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=actions)], **settings)


class Undoable:
    def __init__(self) -> None:
        self.seen: list[Escalation] = []

    def run(self, escalation: Escalation) -> None:
        self.seen.append(escalation)

    def lift(self, escalation: Escalation) -> None:
        self.seen.append(escalation)


def test_the_original_example_blocks_at_the_11th_and_reports_at_the_101st() -> None:
    policy = Policy(
        "login_failed",
        [
            Threshold(10, "1h", ban="1h", actions=["block_local"]),
            Threshold(100, "1h", ban="1d", actions=["report_central"]),
        ],
    )
    clock = ManualClock(START)
    ran: list[tuple[str, Escalation]] = []
    attempt = 0
    actions = {name: lambda each, name=name: ran.append((name, each)) for name in ("block_local", "report_central")}
    with BanHammer([policy], clock=clock, actions=actions) as hammer:
        allowed, crossed = [], []
        for attempt in range(1, 201):
            decision = hammer.hit(KEY, "login_failed")
            allowed += [attempt] if decision else []
            crossed += [(attempt, index) for index in decision.tripped]
            clock.advance("100ms")
        assert hammer.drain(5)
    assert allowed == list(range(1, 11))
    assert crossed == [(11, 0), (101, 1)]
    assert [name for name, _ in ran] == ["block_local", "report_central"]
    blocked, reported = (escalation for _, escalation in ran)
    assert (blocked.at, blocked.until) == ((START + 1_000_000) / 1e6, (START + 3_601_000_000) / 1e6)
    assert (reported.at, reported.until) == ((START + 10_000_000) / 1e6, (START + 86_410_000_000) / 1e6)
    assert (blocked.limit, blocked.period, blocked.reason) == (10, 3600.0, "over 10 per 1h")
    assert (blocked.verdict, blocked.strikes, blocked.origin, blocked.shadow) == ("banned", 1, "hit", False)
    assert blocked.id != reported.id


def test_a_hit_does_not_wait_for_its_action() -> None:
    release, began = threading.Event(), threading.Event()

    def slow(_: Escalation) -> None:
        began.set()
        assert release.wait(5)

    hammer = BanHammer([trap("slow")], actions={"slow": slow})
    assert not hammer.hit(KEY, "trap")
    assert began.wait(5)
    assert not hammer.hit("another", "trap")
    assert not hammer.drain(0.01)
    release.set()
    assert hammer.drain(5)
    hammer.close()


def test_actions_run_in_the_order_of_the_escalations_and_of_the_list() -> None:
    ran: list[tuple[str, str]] = []
    actions = {name: lambda each, name=name: ran.append((each.key, name)) for name in ("first", "second")}
    with BanHammer([trap("first", "second")], actions=actions) as hammer:
        for number in range(20):
            hammer.hit(f"k{number}", "trap")
        assert hammer.drain(5)
    assert ran == [(f"k{number}", name) for number in range(20) for name in ("first", "second")]


def test_every_tripped_threshold_escalates_with_an_id_of_its_own() -> None:
    levels = [Threshold(n, "1h", ban=f"{n}h", actions=["note"]) for n in (1, 2, 3)]
    note = Undoable()
    with BanHammer([Policy("p", levels)], actions={"note": note}, clock=ManualClock(START)) as hammer:
        decision = hammer.hit(KEY, "p", 4)
        assert hammer.drain(5)
        assert decision.tripped == (0, 1, 2)
        assert [each.threshold for each in note.seen] == [0, 1, 2]
        assert len({each.id for each in note.seen}) == 3
        assert {(each.until, each.cost) for each in note.seen} == {((START + 3 * 3_600_000_000) / 1e6, 4)}
        (ban,) = hammer.bans()
        assert ban.id == note.seen[-1].id


def test_an_action_that_raises_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    def broken(_: Escalation) -> None:
        raise RuntimeError("no firewall here")

    actions = {"broken": broken, "good": lambda each: ran.append(each.key)}
    with caplog.at_level(logging.ERROR, "banhammer"), BanHammer([trap("broken", "good")], actions=actions) as hammer:
        assert hammer.hit("a", "trap").verdict == "banned"
        assert hammer.hit("b", "trap").verdict == "banned"
        assert hammer.drain(5)
        assert ran == ["a", "b"]
        assert hammer._rules.worker.failures == 2
    assert "no firewall here" in caplog.text


def test_an_action_that_exits_ends_neither_the_worker_nor_the_wait_for_it() -> None:
    ran: list[str] = []
    actions = {"exit": lambda _: sys.exit(1), "good": lambda each: ran.append(each.key)}
    with BanHammer([trap("exit", "good")], actions=actions) as hammer:
        hammer.hit("a", "trap")
        assert hammer.drain(2)
        assert ran == ["a"]


def test_an_object_called_as_a_coroutine_is_awaited() -> None:
    ran: list[str] = []

    class Note:
        async def __call__(self, escalation: Escalation) -> None:
            ran.append(escalation.key)

    with BanHammer([trap("note")], actions={"note": Note()}) as hammer:
        hammer.hit(KEY, "trap")
        assert hammer.drain(5)
    assert ran == [KEY]


def test_a_coroutine_action_runs_without_a_loop_on_the_plain_shell() -> None:
    ran: list[str] = []

    async def note(escalation: Escalation) -> None:
        await asyncio.sleep(0)
        ran.append(escalation.key)

    with BanHammer([trap("note")], actions={"note": note}) as hammer:
        hammer.hit(KEY, "trap")
        assert hammer.drain(5)
    assert ran == [KEY]


def test_a_coroutine_action_runs_on_the_loop_of_the_application() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note(_: Escalation) -> None:
        loops.append(asyncio.get_running_loop())

    async def main() -> asyncio.AbstractEventLoop:
        async with AsyncBanHammer([trap("note")], actions={"note": note}) as hammer:
            assert not await hammer.hit(KEY, "trap")
            assert not (await hammer.hit_many([Hit("b", "trap")]))[0]
            assert await hammer.drain(5)
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert loops == [loop, loop]


def test_a_batch_as_the_first_call_runs_its_coroutine_action_on_the_loop_of_the_application() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def note(_: Escalation) -> None:
        loops.append(asyncio.get_running_loop())

    policy = Policy("p", [Threshold(1, "1h", ban="1h", actions=["note"])])
    store = MemoryBackend()
    BanHammer([policy], backend=store, actions={"note": note}).hit(KEY, "p")

    async def main() -> asyncio.AbstractEventLoop:
        async with AsyncBanHammer([policy], backend=store, actions={"note": note}) as hammer:
            assert not (await hammer.hit_many([Hit(KEY, "p")]))[0]
            assert await hammer.drain(5)
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert loops == [loop]


def test_plain_actions_run_on_the_asynchronous_shell_too() -> None:
    ran: list[str] = []

    async def main() -> None:
        async with AsyncBanHammer([trap("note")], actions={"note": lambda each: ran.append(each.key)}) as hammer:
            await hammer.guard("allowed", "trap")
            await hammer.hit(KEY, "trap")
            await hammer.ban("by hand", "trap")
            assert await hammer.drain(5)

    asyncio.run(main())
    assert ran == [KEY, "by hand"]


def test_close_waits_for_what_is_queued_and_may_be_called_again() -> None:
    ran: list[str] = []
    hammer = BanHammer([trap("note")], actions={"note": lambda each: ran.append(each.key)})
    for number in range(50):
        hammer.hit(f"k{number}", "trap")
    hammer.close()
    assert len(ran) == 50
    hammer.close()
    assert hammer.drain(5)


def test_shadow_records_what_it_would_run_and_runs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    actions = {"note": lambda each: ran.append(each.key)}
    with (
        caplog.at_level(logging.INFO, "banhammer"),
        BanHammer([trap("note")], mode="shadow", actions=actions) as hammer,
    ):
        decision = hammer.hit(KEY, "trap")
        assert (decision.allowed, decision.verdict, decision.shadow, decision.tripped) == (True, "banned", True, (0,))
        assert hammer.drain(5)
        assert hammer._rules.worker.shadowed == 1
    assert ran == []
    assert "would run note" in caplog.text


def test_a_throttle_escalates_again_only_after_its_meter_was_empty() -> None:
    note, clock = Undoable(), ManualClock(START)
    policy = Policy("api", [Threshold(2, "2s", actions=["note"])])
    with BanHammer([policy], actions={"note": note}, clock=clock) as hammer:
        crossings = []
        for wait in ("1us", "1us", "1us", "1us", "1s", "1us", "2s", "1us", "1us", "1us"):
            crossings.append(hammer.hit(KEY, "api").tripped)
            clock.advance(wait)
        assert hammer.drain(5)
    assert crossings == [(), (), (0,), (), (), (), (), (), (), (0,)]
    assert [(each.verdict, each.until) for each in note.seen] == [("throttled", None)] * 2


def test_unban_undoes_what_the_ban_set_off_under_the_bans_id() -> None:
    note, plain, clock = Undoable(), [], ManualClock(START)
    policy = trap("note", "plain")
    with BanHammer([policy], actions={"note": note, "plain": plain.append}, clock=clock) as hammer:
        hammer.hit(KEY, "trap")
        clock.advance("10s")
        lifted = hammer.unban(KEY, "trap")
        assert lifted is not None
        assert hammer.unban(KEY, "trap") is None
        assert hammer.drain(5)
    made, undone = note.seen
    assert (made.verdict, undone.verdict, undone.origin) == ("banned", "lifted", "manual")
    assert made.id == undone.id == lifted.id
    assert undone.at == (START + 10_000_000) / 1e6
    assert [each.verdict for each in plain] == ["banned"]


def test_a_ban_by_hand_runs_the_actions_of_its_threshold() -> None:
    levels = [
        Threshold(5, "1m", actions=["throttle"]),
        Threshold(10, "1h", ban="1h", actions=["low"]),
        Threshold(100, "1h", ban="forever", actions=["high"]),
    ]
    ran: list[tuple[str, Escalation]] = []
    actions = {name: lambda each, name=name: ran.append((name, each)) for name in ("throttle", "low", "high")}
    with BanHammer([Policy("p", levels)], actions=actions, clock=ManualClock(START)) as hammer:
        hammer.ban("a", "p", reason="spam")
        hammer.ban("b", "p", threshold=2)
        hammer.ban("c", "p", "5m", threshold=0)
        assert hammer.drain(5)
    assert [(name, each.key, each.threshold) for name, each in ran] == [
        ("low", "a", 1),
        ("high", "b", 2),
        ("throttle", "c", 0),
    ]
    assert [each.origin for _, each in ran] == ["manual"] * 3
    assert (ran[0][1].reason, ran[1][1].until) == ("spam", math.inf)


def test_unban_undoes_a_ban_by_hand_under_a_throttle_of_a_policy_with_a_ladder() -> None:
    note = Undoable()
    levels = [Threshold(5, "1m", actions=["note"]), Threshold(10, "1h", ban="1h")]
    with BanHammer([Policy("p", levels)], actions={"note": note}) as hammer:
        hammer.ban(KEY, "p", "5m", threshold=0)
        hammer.unban(KEY, "p")
        assert hammer.drain(5)
    assert [each.verdict for each in note.seen] == ["banned", "lifted"]


def test_a_ban_by_hand_under_a_policy_without_a_ladder_runs_nothing() -> None:
    ran: list[Escalation] = []
    policy = Policy("api", [Threshold(5, "1m", actions=["note"])])
    with BanHammer([policy], actions={"note": ran.append}) as hammer:
        assert hammer.ban(KEY, "api", "5m").threshold == 0
        assert hammer.drain(5)
    assert ran == []


def test_an_action_that_nobody_gives_is_a_config_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        BanHammer([trap("block_locl"), Policy("p", [Threshold(1, 1, actions=["page"])])], actions={"note": print})
    first, second = caught.value.mistakes
    assert "policies.trap.thresholds.0.actions" in first
    assert "'block_locl'" in first
    assert "did you mean 'block_local'?" in first
    assert "'page'" in second
    assert "note" in second


def test_an_action_that_cannot_be_called_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"actions\.note: 5"):
        BanHammer([trap("note")], actions={"note": 5})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["block_local", "record_local", "report_central"])
def test_the_built_in_actions_are_always_known(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # Where record_local writes unless it is told.
    with BanHammer([trap(name)]) as hammer:
        assert not hammer.hit(KEY, "trap")
        assert hammer.drain(5)
        assert hammer._rules.worker.failures == 0


def test_coroutine_actions_survive_one_loop_after_another() -> None:
    ran: list[str] = []

    async def note(escalation: Escalation) -> None:
        ran.append(escalation.key)

    hammer = AsyncBanHammer([trap("note")], actions={"note": note})

    async def request(key: str) -> None:
        await hammer.hit(key, "trap")

    for number in range(50):
        asyncio.run(request(f"k{number}"))
    asyncio.run(hammer.close())
    assert 50 - len(set(ran)) <= hammer._rules.worker.failures
    assert hammer._rules.worker.drain(0)


def test_block_local_lists_the_key_here_calls_the_application_and_clears_the_list_on_lift() -> None:
    clock = ManualClock(START)
    told: list[str] = []
    note = {"block_local": lambda each: told.append(each.verdict)}
    with BanHammer([trap("block_local")], actions=note, clock=clock) as hammer:
        hammer.hit(KEY, "trap")
        assert hammer.drain(5)
        assert dict(hammer.blocked) == {KEY: (START + 3_600_000_000) / 1e6}
        hammer.unban(KEY, "trap")
        assert hammer.drain(5)
        assert KEY not in hammer.blocked
        hammer.ban("another", "trap", "10s")
        assert hammer.drain(5)
        clock.advance("10s")
        assert dict(hammer.blocked) == {}
    assert told == ["banned", "lifted", "banned"]


def test_a_hit_never_asks_what_block_local_has_listed() -> None:
    with BanHammer([trap("block_local"), Policy("api", [Threshold(5, "1m")])]) as hammer:
        hammer.hit(KEY, "trap")
        assert hammer.drain(5)
        assert KEY in hammer.blocked
        assert hammer.hit(KEY, "api")


def test_an_action_runs_on_the_terms_that_its_table_gives() -> None:
    tried: list[float] = []

    def broken(_: Escalation) -> None:
        tried.append(0)
        raise RuntimeError("never")

    settings = {"broken": {"attempts": 3, "backoff": "1ms"}}
    with BanHammer([trap("broken")], actions={"broken": broken}, action_settings=settings) as hammer:
        hammer.hit(KEY, "trap")
        until(lambda: bool(hammer._rules.worker.dead), "the third try was the last")
        (letter,) = hammer._rules.worker.dead
        assert (letter.action, letter.attempts, len(tried)) == ("broken", 3, 3)
        assert "never" in letter.error


def test_wrong_settings_of_actions_are_told_at_once_with_their_paths() -> None:
    settings = {"note": {"attempts": 0, "colour": 1}, "record_local": {"keep": 0}, "record_locl": {}}
    with pytest.raises(ConfigError) as caught:
        BanHammer([trap("note")], actions={"note": print}, action_settings=settings)
    assert caught.value.mistakes == (
        "actions.record_locl: given by no installed plugin nor by the application; did you mean 'record_local'?",
        "actions.record_local.keep: 0; write a whole number from 1 to 1,000",
        "actions.note.attempts: 0; write an integer from 1 to 1,000",
        "actions.note.colour: only a plugin's action has settings of its own, and no installed plugin gives this one; "
        "one of the application has deadline, attempts, backoff",
    )
