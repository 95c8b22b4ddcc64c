"""The plugin of pytest, as a test file of an application sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ("pytester",)

APPLICATION = """
from banhammer import BanHammer, Policy, Threshold

hammer = BanHammer([Policy("trap", [Threshold(1, "1h", burst=0, ban="1h")])])
check = hammer.hit
"""
RULES = '[policies.api]\nthresholds = [{ limit = 2, period = "1m", actions = ["tell"] }]\n'


def run(pytester: pytest.Pytester, tests: str, *options: str, passed: int) -> None:
    pytester.makepyfile(application=APPLICATION, test_it=tests)
    pytester.makefile(".toml", banhammer='backend = "redis://nowhere.invalid:1"\n' + RULES)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error", *options).assert_outcomes(passed=passed)


def test_a_hammer_is_made_of_policies_a_file_or_a_mapping_on_one_clock(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        from banhammer import Policy, Threshold
        seen = []

        def test_policies(make_hammer, banhammer_clock):
            hammer = make_hammer([Policy("api", [Threshold(1, "1m")])])
            assert [bool(hammer.hit("k", "api")) for _ in range(2)] == [True, False]
            banhammer_clock.advance("1m")
            assert hammer.hit("k", "api")

        def test_file(make_hammer):
            hammer = make_hammer("banhammer.toml", actions={"tell": seen.append})
            assert [bool(hammer.hit("k", "api")) for _ in range(3)] == [True, True, False]
            assert hammer.drain(5)
            assert seen[0].key == "k"
            assert "memory" in repr(hammer).lower()

        def test_mapping(make_hammer):
            rules = {"policies": {"api": {"thresholds": [{"limit": 1, "period": "1m"}]}}}
            one, other = make_hammer(rules), make_hammer(rules, mode="shadow")
            assert one.hit("k", "api") and not one.hit("k", "api")
            assert other.hit("k", "api") and other.hit("k", "api").shadow

        def test_default_file(make_hammer, monkeypatch):
            monkeypatch.setenv("BANHAMMER_CONFIG", "banhammer.toml")
            assert "api" in make_hammer(actions={"tell": print}).policies
        """,
        passed=4,
    )


def test_hammers_are_closed_behind_the_test(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import asyncio, threading
        from banhammer import Policy, Threshold
        TRAP = [Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=["tell"])])]
        seen = []
        before = set(threading.enumerate())  # Of the tests around this one.

        def test_made(make_hammer, make_async_hammer):
            assert not make_hammer(TRAP, actions={"tell": seen.append}).hit("k", "trap")
            hammer = make_async_hammer(TRAP, actions={"tell": seen.append})
            assert not asyncio.run(hammer.hit("k", "trap"))

        def test_closed():
            assert len(seen) == 2
            for thread in set(threading.enumerate()) - before:
                thread.join(5)
            assert set(threading.enumerate()) <= before
        """,
        passed=2,
    )


TESTS = """
import application

def test_off():
    assert application.hammer.hit("k", "trap") and application.check("k", "trap")

def test_on(limits_on):
    assert not application.hammer.hit("k", "trap") and not application.check("k", "trap")

def test_off_again():
    assert application.check("k", "trap")
"""


def test_an_option_turns_the_limits_off_for_a_run(pytester: pytest.Pytester) -> None:
    run(pytester, TESTS, "--banhammer-limits-off", passed=3)


def test_a_setting_turns_the_limits_off_for_a_project(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nbanhammer_limits_off = true\n")
    run(pytester, TESTS, passed=3)


def test_a_test_that_makes_a_hammer_has_its_limits(pytester: pytest.Pytester) -> None:
    tests = """
    from banhammer import Policy, Threshold

    def test_it(make_hammer):
        hammer = make_hammer([Policy("api", [Threshold(1, "1m")])])
        assert [bool(hammer.hit("k", "api")) for _ in range(2)] == [True, False]
    """
    run(pytester, tests, "--banhammer-limits-off", passed=1)


def test_a_fixture_turns_the_limits_off_for_a_test(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import application

        def test_on_before():
            assert not application.check("k", "trap")

        def test_off(limits_off):
            assert application.check("k", "trap")

        def test_on():
            assert not application.check("k", "trap")
        """,
        passed=3,
    )


def test_the_limits_of_this_run_are_as_they_were_behind_all_that() -> None:
    from banhammer import BanHammer, Policy, Threshold

    assert not BanHammer([Policy("trap", [Threshold(1, "1h", burst=0, ban="1h")])]).hit("k", "trap")


def test_loading_the_plugin_loads_nothing_of_the_package() -> None:
    code = "import _banhammer_pytest, sys; sys.exit('banhammer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_helpers_need_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import banhammer.testing; banhammer.testing.ManualClock()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
