"""Which requests are hits, and the steps by which a request is decided."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.errors import ConfigError
from banhammer.hammer import BanHammer
from banhammer.identity import parse_selector
from banhammer.model import Hit, Mode, Policy, Threshold
from banhammer.routes import Route, Routes, _overlap, after, ask, before, denial, wrong_order

NOW = 1_700_000_000_000_000
IP = "203.0.113.9"


class FakeRequest:
    def __init__(self, method: str = "GET", path: str = "/", ip: str | None = IP, user: str | None = None) -> None:
        self.method, self.path, self.ip, self.user = method, path, ip, user
        self.host = None

    def header(self, name: str) -> None:
        return None

    def cookie(self, name: str) -> None:
        return None


def matched_policies(routes: Sequence[Route], method: str, path: str) -> list[str]:
    return [route.policy for route, _ in Routes(routes).match(FakeRequest(method, path))]


@pytest.mark.parametrize(
    ("settings", "method", "path", "matches"),
    [
        ({}, "GET", "/anything", True),
        ({"path": "/login*"}, "GET", "/login", True),
        ({"path": "/login*"}, "GET", "/login/a/b", True),
        ({"path": "/login*"}, "GET", "/Login", False),
        ({"path": "/login"}, "GET", "/login?next=/", True),
        ({"path": "/login"}, "GET", "/login?a=1?b=2", True),
        ({"path": "*next*"}, "GET", "/login?next=/", False),
        ({"path": "/login"}, "GET", "/login/", False),
        ({"path": "/login"}, "GET", "/login\n", False),
        ({"path": "/a?c"}, "GET", "/abc", True),
        ({"path": "/[!a]"}, "GET", "/b", True),
        ({"path": "/[!a]"}, "GET", "/a", False),
        ({"path": ["/a", "/b"]}, "GET", "/b", True),
        ({"path": ["/a", "/b"]}, "GET", "/ab", False),
        ({"excluded": "/static/*"}, "GET", "/static/x", False),
        ({"excluded": ["/a", "/b"]}, "GET", "/b?c", False),
        ({"excluded": []}, "GET", "/", True),
        ({"path": "/a*", "excluded": "/ab*"}, "GET", "/ac", True),
        ({"methods": ["POST"]}, "POST", "/", True),
        ({"methods": ["POST"]}, "post", "/", True),
        ({"methods": "post"}, "POST", "/", True),
        ({"methods": ["POST", "PUT"]}, "GET", "/", False),
        ({"methods": ["POST"]}, "", "/", False),
        ({"path": "/" + "a" * 5000}, "GET", "/" + "a" * 5000, True),
    ],
)
def test_a_route_matches_by_path_and_method(settings: dict[str, object], method: str, path: str, matches: bool) -> None:
    routes = [Route(policy="p", **settings)]
    assert matched_policies(routes, method, path) == ["p"] * matches


GLOB = st.text("ab*?[!]-/.", min_size=1, max_size=6)
PATH = st.text("ab*?[!]-/.\n\ud800", max_size=8)


@given(st.lists(GLOB, min_size=1, max_size=3), st.lists(GLOB, max_size=3), PATH)
def test_globs_mean_what_fnmatchcase_means(globs: list[str], excluded: list[str], path: str) -> None:
    bare = path.partition("?")[0]
    expected = any(fnmatchcase(bare, glob) for glob in globs)
    expected = expected and not any(fnmatchcase(bare, glob) for glob in excluded)
    assert matched_policies([Route(globs, excluded=excluded, policy="p")], "GET", path) == ["p"] * expected


def test_routes_match_in_their_order_as_far_as_the_first_skip() -> None:
    routes = [
        Route("/a*", policy="first"),
        Route("/ab", skip=True),
        Route(policy="second"),
        Route("/a", methods="POST", skip=True),
        Route("/a*", policy="third"),
    ]
    assert matched_policies(routes, "GET", "/ab") == ["first"]
    assert matched_policies(routes, "GET", "/a") == ["first", "second", "third"]
    assert matched_policies(routes, "POST", "/a") == ["first", "second"]
    assert matched_policies(routes, "GET", "/b") == ["second"]


def test_a_route_whose_key_is_missing_does_not_match() -> None:
    routes = Routes([Route(policy="a", key="user"), Route(policy="b", key="ip/24/48"), Route(policy="c")])
    matched = routes.match(FakeRequest())
    assert [(route.policy, key) for route, key in matched] == [("b", "203.0.113.0/24"), ("c", IP)]
    assert routes.match(FakeRequest(ip="unknown")) == []


def test_a_repeated_path_is_matched_for_each_key_anew() -> None:
    routes = Routes([Route("/a", policy="p")])
    for ip in ("203.0.113.1", "203.0.113.2"):
        assert [key for _, key in routes.match(FakeRequest(path="/a?x=" + ip, ip=ip))] == [ip]
    assert routes._matching.cache_info().misses == 1


def test_the_memo_is_bounded_and_holds_no_long_path() -> None:
    routes = Routes([Route("/*", policy="p")])
    for number in range(9_000):
        assert routes.match(FakeRequest(path=f"/{number}"))
    full = routes._matching.cache_info().currsize
    assert routes.match(FakeRequest(path="/" * 65_536))
    assert routes.match(FakeRequest(method="G" * 65_536))
    assert full == routes._matching.cache_info().currsize == 8_192


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (401, {401}),
        ("401", {401}),
        ([401, 403], {401, 403}),
        ("4xx", set(range(400, 500))),
        (["5XX", 404], {404, *range(500, 600)}),
    ],
)
def test_a_status_names_codes_and_classes(status: int | str | list[int | str], codes: set[int]) -> None:
    route = Route(policy="p", status=status)
    assert route.codes == codes
    assert route.guarded


GUARDED = Route("/login", policy="failed", status=[401, "5xx"], cost=3)
PLAIN = Route(policy="api", cost=2)


def test_before_the_application_a_route_with_status_is_a_guard_and_one_without_a_hit() -> None:
    matched = Routes([GUARDED, PLAIN]).match(FakeRequest(path="/login"))
    assert before(matched) == [Hit(IP, "failed", cost=3, guard=True), Hit(IP, "api", cost=2)]


@pytest.mark.parametrize(
    ("status", "hits"),
    [(401, [Hit(IP, "failed", cost=3)]), (503, [Hit(IP, "failed", cost=3)]), (200, []), (403, [])],
)
def test_after_the_application_only_a_status_that_holds_the_code_is_a_hit(status: int, hits: list[Hit]) -> None:
    matched = Routes([GUARDED, PLAIN]).match(FakeRequest(path="/login"))
    assert after(matched, status) == hits


def request(hammer: BanHammer, routes: Routes, status: int, path: str = "/login") -> str:
    """Decide one request as a caller with a shared store does; return the denying policy, or an empty text."""
    matched = routes.match(FakeRequest(path=path))
    denied = denial(hammer.hit_many(before(matched), stop=True))
    if denied is not None:
        return denied.policy
    hammer.hit_many(after(matched, status))
    return ""


def asked(hammer: BanHammer, routes: Routes, status: int, path: str = "/login") -> str:
    """Decide one request as a caller in one process does."""
    matched = routes.match(FakeRequest(path=path))
    denied = denial(ask(hammer, before(matched), stop=True))
    if denied is not None:
        return denied.policy
    ask(hammer, after(matched, status))
    return ""


REQUESTS = st.lists(st.sampled_from([200, 401, 404]), max_size=30)
MODES = st.sampled_from(["enforce", "shadow"])
STATUSES = st.sampled_from([None, 401, "4xx"])
POLICY_SETS = st.lists(st.tuples(st.integers(1, 4), st.booleans(), MODES, STATUSES), min_size=1, max_size=4)


@given(POLICY_SETS, REQUESTS)
def test_one_call_for_all_and_a_call_for_each_decide_alike(
    drawn: list[tuple[int, bool, Mode, int | str | None]], statuses: list[int]
) -> None:
    policies = [
        Policy(f"p{index}", [Threshold(limit, "1h", ban="1h" if bans else None)], mode=mode)
        for index, (limit, bans, mode, _) in enumerate(drawn)
    ]
    routes = Routes([Route(policy=f"p{index}", status=status) for index, (*_, status) in enumerate(drawn)])
    one, each = hammer_of(*policies), hammer_of(*policies)
    for status in statuses:
        assert request(one, routes, status) == asked(each, routes, status)
    for policy in policies:
        assert one.peek(IP, policy.name) == each.peek(IP, policy.name)


def test_only_with_stop_a_denial_ends_a_list_of_hits() -> None:
    hits = [Hit(IP, "tight"), Hit(IP, "tight"), Hit(IP, "z")]
    for stop, left in ((True, 0), (False, 1)):
        hammer = hammer_of(throttle("tight", 1), throttle("z"))
        decisions = ask(hammer, hits, stop=stop)
        assert [decision.allowed for decision in decisions] == [True, False, True][: 2 + left]
        assert used(hammer, "z") == left


def hammer_of(*policies: Policy) -> BanHammer:
    return BanHammer(policies, clock=lambda: NOW)


def used(hammer: BanHammer, policy: str) -> int:
    """Return how many units of this policy's first threshold are used."""
    record = hammer.status(IP, policy)
    return 100 - record.remaining[0]


def throttle(name: str, limit: int = 100, mode: str | None = None) -> Policy:
    return Policy(name, [Threshold(100, "1h", burst=limit)], mode=mode)  # type: ignore[arg-type]


def test_failures_are_counted_after_their_responses_and_deny_the_next_request() -> None:
    hammer = hammer_of(Policy("failed", [Threshold(2, "1h", ban="1h")]))
    routes = Routes([Route("/login", policy="failed", status=401)])
    assert [request(hammer, routes, 200) for _ in range(5)] == [""] * 5
    assert [request(hammer, routes, 401) for _ in range(4)] == ["", "", "", "failed"]


def test_the_first_denial_ends_the_request_and_what_stood_before_stays_charged() -> None:
    hammer = hammer_of(throttle("a"), throttle("tight", 1), throttle("z"))
    routes = Routes([Route(policy=name) for name in ("a", "tight", "z")])
    assert [request(hammer, routes, 200) for _ in range(3)] == ["", "tight", "tight"]
    assert (used(hammer, "a"), used(hammer, "z")) == (3, 1)


def test_a_denied_request_has_no_response_to_count() -> None:
    hammer = hammer_of(throttle("failed"), throttle("tight", 1))
    routes = Routes([Route(policy="failed", status="4xx"), Route(policy="tight")])
    assert [request(hammer, routes, 401) for _ in range(3)] == ["", "tight", "tight"]
    assert used(hammer, "failed") == 1


def test_a_policy_in_shadow_is_asked_and_never_ends_the_list() -> None:
    hammer = hammer_of(throttle("shadow", 1, "shadow"), throttle("z"))
    routes = Routes([Route(policy="shadow"), Route(policy="z")])
    assert [request(hammer, routes, 200) for _ in range(3)] == ["", "", ""]
    assert used(hammer, "z") == 3
    assert hammer.peek(IP, "shadow").verdict == "throttled"


def test_a_skipped_request_asks_nothing() -> None:
    hammer = hammer_of(throttle("tight", 1))
    routes = Routes([Route("/healthz", skip=True), Route(policy="tight")])
    assert [request(hammer, routes, 200, "/healthz?full") for _ in range(3)] == ["", "", ""]
    assert request(hammer, routes, 200, "/") == ""
    assert request(hammer, routes, 200, "/") == "tight"


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({}, "policy: missing; name one, or set skip = true"),
        ({"policy": 5}, "policy: 5; write the name"),
        ({"policy": "p", "path": []}, "path: []; write a glob"),
        ({"policy": "p", "path": [""]}, "path: ''; write a glob"),
        ({"policy": "p", "path": 7}, "path: 7; write a glob"),
        ({"policy": "p", "excluded": ["/a", None]}, "except: None; write a glob"),
        ({"policy": "p", "methods": []}, "methods: []; write a list of methods"),
        ({"policy": "p", "methods": ["GET POST"]}, "methods: 'GET POST'; write a list of methods"),
        ({"policy": "p", "methods": [1]}, "methods: 1; write a list of methods"),
        ({"policy": "p", "status": []}, "status: []; write codes"),
        ({"policy": "p", "status": 99}, "status: 99; write codes from 100 to 599"),
        ({"policy": "p", "status": 600}, "status: 600; write codes"),
        ({"policy": "p", "status": "4x"}, "status: 4x; write codes"),
        ({"policy": "p", "status": "٤xx"}, "status: ٤xx; write codes"),
        ({"policy": "p", "status": True}, "status: true; write codes"),
        ({"policy": "p", "status": [401.0]}, "status: 401.0; write codes"),
        ({"policy": "p", "key": "ipp"}, "key: 'ipp': 'ipp' is not a key selector; did you mean 'ip'"),
        ({"policy": "p", "key": 7}, "key: 7 is not a key selector"),
        ({"policy": "p", "cost": 0}, "cost: 0; it must be an integer from 1 to 1,000,000"),
        ({"policy": "p", "cost": 1_000_001}, "cost: 1000001; it must be"),
        ({"policy": "p", "cost": True}, "cost: True; it must be"),
        ({"policy": "p", "cost": 1.0}, "cost: 1.0; it must be"),
        ({"policy": "p", "skip": "yes"}, "skip: 'yes'; write true or false"),
        ({"skip": True, "policy": "p"}, "policy: a route with skip = true counts nothing"),
        ({"skip": True, "status": 401}, "status: a route with skip = true counts nothing"),
        ({"skip": True, "key": "user"}, "key: a route with skip = true counts nothing"),
        ({"skip": True, "cost": 2}, "cost: a route with skip = true counts nothing"),
    ],
)
def test_a_route_that_cannot_be_meant_is_a_mistake(settings: dict[str, object], mistake: str) -> None:
    with pytest.raises(ConfigError) as error:
        Route(**settings)
    assert len(error.value.mistakes) == 1
    assert error.value.mistakes[0].startswith(mistake)


def test_all_mistakes_of_a_route_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        Route("", excluded=7, methods="A B", status=0, key="x", cost=0)  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in error.value.mistakes] == [
        "status",
        "path",
        "except",
        "methods",
        "key",
        "cost",
        "policy",
    ]


def test_a_route_takes_a_selector_ready_made() -> None:
    assert Route(policy="p", key=parse_selector("user")) == Route(policy="p", key="user")


BANS = Policy("bans", [Threshold(5, "1h", ban="1h")])
BOTH = Policy("both", [Threshold(5, "1m"), Threshold(5, "1h", ban="1h")])
SLOW = Policy("slow", [Threshold(5, "1m"), Threshold(50, "1h")])
POLICIES = {policy.name: policy for policy in (BANS, BOTH, SLOW)}


@pytest.mark.parametrize(
    ("routes", "pairs"),
    [
        ([Route(policy="slow"), Route(policy="bans")], [(0, 1)]),
        ([Route(policy="slow"), Route(policy="both")], [(0, 1)]),
        ([Route(policy="slow"), Route(policy="bans"), Route(policy="both")], [(0, 1), (0, 2)]),
        ([Route(policy="bans"), Route(policy="slow")], []),
        ([Route(policy="both"), Route(policy="bans")], []),
        ([Route(policy="slow"), Route(policy="unknown"), Route(policy="slow")], []),
        ([Route(policy="slow", status=401), Route(policy="bans")], [(0, 1)]),
        ([Route(policy="slow", methods="GET"), Route(policy="bans", methods="POST")], []),
        ([Route(policy="slow", methods="GET"), Route(policy="bans")], [(0, 1)]),
        ([Route("/a*", policy="slow"), Route("/b*", policy="bans")], []),
        ([Route("/a*", policy="slow"), Route("*.php", policy="bans")], [(0, 1)]),
        ([Route(["/a", "/b"], policy="slow"), Route("/b", policy="bans")], [(0, 1)]),
        ([Route(policy="slow", excluded="/login*"), Route("/login", policy="bans")], []),
        ([Route(policy="slow", excluded="/login*"), Route("/login*", policy="bans")], []),
        ([Route(policy="slow", excluded="/login?"), Route("/login*", policy="bans")], [(0, 1)]),
        ([Route("/a", policy="slow"), Route(policy="bans", excluded="/a")], []),
        ([Route("/a", policy="slow"), Route("/a", skip=True), Route(policy="bans")], []),
        ([Route("/a", policy="slow"), Route("/a", skip=True, methods="GET"), Route(policy="bans")], [(0, 2)]),
        ([Route("/a", policy="slow"), Route(policy="bans"), Route("/a", skip=True)], [(0, 1)]),
    ],
)
def test_a_throttle_before_a_ban_of_the_same_requests_is_warned_of(
    routes: list[Route], pairs: list[tuple[int, int]]
) -> None:
    warnings = wrong_order(routes, POLICIES)
    assert len(warnings) == len(pairs)
    for warning, (earlier, later) in zip(warnings, pairs, strict=True):
        assert warning.startswith(f"routes.{earlier}: policy 'slow' only throttles")
        assert f"put routes.{later} first" in warning


SIMPLE = st.text("ab*?", max_size=3)


@given(SIMPLE, SIMPLE)
def test_two_globs_overlap_exactly_when_some_path_matches_both(left: str, right: str) -> None:
    witnesses = ("".join(letters) for size in range(7) for letters in itertools.product("ab", repeat=size))
    assert _overlap(left, right) == any(fnmatchcase(path, left) and fnmatchcase(path, right) for path in witnesses)


@given(GLOB, GLOB, PATH)
def test_two_globs_that_match_one_path_overlap(left: str, right: str, path: str) -> None:
    both = fnmatchcase(path, left) and fnmatchcase(path, right)
    assert _overlap(left, right) or not both
