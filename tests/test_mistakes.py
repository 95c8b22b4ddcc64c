"""What a call may not ask is refused by name, before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest

from banhammer import BanHammer, ConfigError, Hit, Policy, Threshold, UnknownPolicyError
from banhammer.errors import BanhammerError
from banhammer.model import MAX_COST
from banhammer.testing import ManualClock

KEY = "203.0.113.9"
LOGIN = Policy("login_failed", [Threshold(10, "1h", ban="1h")])
API = Policy("api", [Threshold(3, "3s")])


@pytest.fixture
def hammer() -> BanHammer:
    return BanHammer([LOGIN, API], clock=ManualClock(), allow=["friend"])


def test_an_unknown_policy_is_a_key_error_with_the_nearest_name(hammer: BanHammer) -> None:
    for call in (hammer.hit, hammer.guard, hammer.peek, hammer.ban, hammer.unban, hammer.reset, hammer.status):
        with pytest.raises(UnknownPolicyError, match="did you mean 'login_failed'") as caught:
            call(KEY, "login_faild")
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, BanhammerError)
    with pytest.raises(UnknownPolicyError, match="known: api, login_failed"):
        hammer.hit(KEY, "zzzzzz")
    for name in (None, 5, ["api"]):
        with pytest.raises(UnknownPolicyError):
            hammer.hit(KEY, name)  # type: ignore[arg-type]
        with pytest.raises(UnknownPolicyError):
            hammer.hit_many([Hit(KEY, name)])  # type: ignore[arg-type]
    with pytest.raises(UnknownPolicyError, match="no policy is configured"):
        BanHammer([]).hit(KEY, "api")


@pytest.mark.parametrize("key", ["", None, 7, b"bytes", ("a",)])
def test_a_key_that_is_empty_or_no_string_is_a_value_error(hammer: BanHammer, key: Any) -> None:
    for call in (hammer.hit, hammer.guard, hammer.peek, hammer.ban, hammer.unban, hammer.reset, hammer.status):
        with pytest.raises(ValueError, match="key: "):
            call(key, "api")
    assert list(hammer.status_all()) == []


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, MAX_COST + 1, "1", None])
def test_a_cost_out_of_range_is_a_value_error_and_charges_nothing(hammer: BanHammer, cost: Any) -> None:
    hammer.hit(KEY, "api")
    for key in (KEY, "new", "friend"):
        for call in (hammer.hit, hammer.guard, hammer.peek):
            with pytest.raises(ValueError, match="it must be an integer from 1 to 1,000,000"):
                call(key, "api", cost)
        with pytest.raises(ValueError, match="cost: "):
            hammer.hit_many([Hit(KEY, "api"), Hit(key, "api", cost=cost)])
    assert hammer.status(KEY, "api").remaining == (2,)
    assert len(list(hammer.status_all())) == 1


def test_one_mistake_in_a_batch_charges_nothing(hammer: BanHammer) -> None:
    for wrong in (Hit(KEY, "apo"), Hit("", "api"), Hit(KEY, "api", cost=0)):
        for stop in (False, True):
            with pytest.raises((UnknownPolicyError, ValueError)):
                hammer.hit_many([Hit(KEY, "api"), wrong], stop=stop)
    assert list(hammer.status_all()) == []


def test_a_policy_given_twice_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"policies\.api: it is given twice"):
        BanHammer([API, API])
