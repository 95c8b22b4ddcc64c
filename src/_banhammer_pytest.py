"""The plugin of pytest: fixtures and an option for the tests of applications.

It stands outside the package and imports it only where a test asks for it: pytest loads every plugin that is installed,
before the first test and before coverage is measured.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from banhammer import AsyncBanHammer, BanHammer
    from banhammer.testing import ManualClock

INI = "banhammer_limits_off"
OPTION = "--banhammer-limits-off"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the switch."""
    what = "let every hammer allow everything, except in tests that use the fixture limits_on"
    parser.getgroup("banhammer").addoption(OPTION, action="store_true", help=what)
    parser.addini(INI, what, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Turn the limits off for the whole run, where that is asked for."""
    pytest.register_assert_rewrite("banhammer.testing.conformance")
    if config.getoption(OPTION) or config.getini(INI):
        from banhammer.testing import limits_off

        stack = ExitStack()
        config.add_cleanup(stack.close)
        stack.enter_context(limits_off())


@pytest.fixture
def banhammer_clock() -> ManualClock:
    """A clock that moves only when the test moves it; the hammers of `make_hammer` decide by it."""
    from banhammer.testing import ManualClock

    return ManualClock()


@pytest.fixture
def make_hammer(banhammer_clock: ManualClock, limits_on: None) -> Iterator[Callable[..., BanHammer]]:
    """Makes a `BanHammer` of a list of policies, or of a file or mapping of rules, on `banhammer_clock`.

    Its store is `memory://`, whatever a file says; keyword arguments are those of `BanHammer`. It is closed behind the
    test, which is about limits: they are on.
    """
    from banhammer import BanHammer

    with ExitStack() as made:

        def make(rules: Any = None, **settings: Any) -> BanHammer:
            hammer: BanHammer = _made(BanHammer, rules, {"clock": banhammer_clock, **settings})
            made.callback(hammer.close)
            return hammer

        yield make


@pytest.fixture
def make_async_hammer(banhammer_clock: ManualClock, limits_on: None) -> Iterator[Callable[..., AsyncBanHammer]]:
    """Makes an `AsyncBanHammer`, as `make_hammer` makes a `BanHammer`."""
    from banhammer import AsyncBanHammer

    with ExitStack() as made:

        def make(rules: Any = None, **settings: Any) -> AsyncBanHammer:
            hammer: AsyncBanHammer = _made(AsyncBanHammer, rules, {"clock": banhammer_clock, **settings})
            made.callback(_close, hammer)
            return hammer

        yield make


@pytest.fixture
def limits_off() -> Iterator[None]:
    """Every hammer allows everything during the test."""
    from banhammer.testing import limits_off

    with limits_off():
        yield


@pytest.fixture
def limits_on() -> Iterator[None]:
    """Hammers decide during the test, although limits are off for the run."""
    from banhammer.testing import limits_on

    with limits_on():
        yield


def _made(shell: Any, rules: Any, settings: dict[str, Any]) -> Any:
    settings = {"backend": "memory://", **settings}
    if rules is None or isinstance(rules, (str, os.PathLike, Mapping)):
        return shell.from_config(rules, **settings)
    return shell(rules, **settings)


def _close(hammer: AsyncBanHammer) -> None:
    """Close it on an event loop of its own, in a thread: one may run, or be set, in this one."""
    thread = threading.Thread(target=asyncio.run, args=(hammer.close(),))
    thread.start()
    thread.join()
