"""What `check` says of lists and routes: entries that are no address, and routes that are never asked."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banhammer.advice import warnings
from banhammer.config import Config, load
from banhammer.routes import Routes


def config(*routes: dict[str, Any], deny: list[str] | None = None, **others: Any) -> Config:
    policy = {"thresholds": [{"limit": 10, "period": "1m"}], "deny": deny}
    return load({"policies": {"p": policy}, "routes": list(routes), **others})


@pytest.mark.parametrize(
    ("entry", "remedy"),
    [
        ("10.0.0.0/33", "write it like '10.0.0.1', '10.0.0.0/8' or '2001:db8::/32'"),
        ("300.1.1.1", "write it like"),
        ("010.0.0.1", "write it like"),
        ("10.0.0.*", "write it like"),
        ("10.0.0/8", "write it like"),
        ("10.0.0.1-10.0.0.9", "write it like"),
        ("2001:db8::/129", "write it like"),
        ("2001:db8:1/48", "write it like"),
        ("203.0.113.7:443", "write '203.0.113.7'"),
        ("fe80::1%eth0", "write 'fe80::/64'"),
    ],
)
def test_a_list_entry_that_looks_like_an_address_and_is_none_is_told_of(entry: str, remedy: str) -> None:
    for name, found_in in (("allow.0", config(allow=[entry])), ("policies.p.deny.0", config(deny=[entry]))):
        (found,) = warnings(found_in)
        assert found.startswith(f"{name}: {entry!r} is no address and no network, so it matches only the key that is")
        assert remedy in found


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.0/8", "10.0.0.1/255.0.0.0", " 203.0.113.7 ", "2001:db8::/32", "::/0", "acct:7", "1.2.3", "1/2", "12345",
     "aa:bb:cc:dd:ee:ff", "host:10.0.0.1", "ip:10.0.0.0/33", "a:b/c"],
)  # fmt: skip
def test_an_address_a_network_and_a_plain_key_are_not_told_of(entry: str) -> None:
    assert not warnings(config(allow=[entry]))


BEHIND = "ends the list for every request that it matches; "


def hidden(*routes: dict[str, Any]) -> list[str]:
    return warnings(config(*routes))


def test_a_skip_without_a_path_hides_every_route_behind_it() -> None:
    login = {"policy": "p", "path": "/login*", "methods": ["POST"]}
    found = hidden({"policy": "p"}, {"skip": True}, login, {"skip": True, "path": "/static/*"})
    assert found == [
        f"routes.{index}: never asked: routes.1 (skip) before it {BEHIND}"
        f"put routes.{index} first, or narrow the path of the skip"
        for index in (2, 3)
    ]


def test_a_route_whose_every_path_is_skipped_before_is_told_of() -> None:
    skips = [{"skip": True, "path": "/a*"}, {"skip": True, "path": "/b*", "methods": ["GET", "HEAD"]}]
    (found,) = hidden(*skips, {"policy": "p", "path": ["/ab", "/b?"], "methods": ["GET"]})
    assert found.startswith("routes.2: never asked: routes.0 and routes.1 (skip) before it ")
    assert not hidden(*skips, {"policy": "p", "path": ["/ab", "/b?"]})
    assert not hidden(*skips, {"policy": "p", "path": ["/ab", "/c"], "methods": ["GET"]})


def test_a_skip_that_lets_some_of_the_requests_through_hides_no_route() -> None:
    assert not hidden({"skip": True, "except": "/login*"}, {"policy": "p"})
    assert hidden({"skip": True, "except": "/login*"}, {"policy": "p", "except": ["/login*", "/x"]})
    assert not hidden({"skip": True, "methods": ["OPTIONS"]}, {"policy": "p"})
    assert not hidden({"skip": True, "path": "/[ab]*"}, {"policy": "p", "path": "/[ab]c"})
    assert not hidden({"policy": "p"}, {"skip": True})


_globs = st.sampled_from(["*", "/a*", "/ab", "/?b", "/[ab]b", "*.css", "/b*"])
_methods = st.sampled_from([None, ["GET"], ["POST"], ["GET", "POST"]])
_excepts = st.lists(_globs.filter(lambda glob: glob != "*"), max_size=1)
_routes = st.fixed_dictionaries(
    {"path": st.lists(_globs, min_size=1, max_size=2), "except": _excepts, "methods": _methods, "skip": st.booleans()}
)


@settings(max_examples=200)
@given(st.lists(_routes, min_size=2, max_size=4))
def test_a_route_that_is_said_never_to_be_asked_never_is(routes: list[dict[str, Any]]) -> None:
    table = [{**route, **({} if route["skip"] else {"policy": "p"})} for route in routes]
    found = config(*table)
    never = [found.routes[int(each[len("routes.") :].partition(":")[0])] for each in warnings(found)]
    matching = Routes(found.routes)
    for method, path in itertools.product(["GET", "POST"], ["/a", "/ab", "/bb", "/b", "/c", "/x.css", "/a.css"]):
        matched = [route for route, _ in matching.match(SimpleNamespace(method=method, path=path, ip="203.0.113.9"))]
        assert not any(hidden is route for hidden in never for route in matched)
