from __future__ import annotations

from pathlib import Path

import pytest

from banhammer import BanHammer
from banhammer.backends import keeps_escalations
from banhammer.config import load
from banhammer.errors import ConfigError
from example import DESIGN


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def mistakes(source: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(source)
    return caught.value.mistakes


# One wrong setting in turn: the line of the example to replace, what to write there, the path, the mistake.
WRONG = [
    (1, "backend = 5", "backend", "a number; write the URL of a store, like 'memory://'"),
    (1, 'backend = "rediss+cluser://h"', "backend", "'rediss+cluser://h' has an unknown scheme; did you mean"),
    (1, 'backend = "localhost"', "backend", "'***' is not a URL; use one of memory://, redis://"),
    (2, 'mode = "shadwo"', "mode", "'shadwo'; write 'enforce' or 'shadow'; did you mean 'shadow'?"),
    (2, "mode = 1", "mode", "1; write 'enforce' or 'shadow'"),
    (2, "deadline = 0", "deadline", "0 is not a duration; it must be longer than nothing"),
    (2, 'deadline = "soon"', "deadline", "'soon' is not a duration; write a number of seconds"),
    (2, "denial_cache = 1", "denial_cache", "1; write true or false"),
    (2, 'denyal = ["x"]', "denyal", "unknown setting; did you mean 'deny'?"),
    (2, "x = 1", "x", "unknown setting; known: backend, mode, allow"),
    (3, 'allow = "10.0.0.0/8"', "allow", "'10.0.0.0/8'; write a list of keys and networks"),
    (3, 'deny = ["a", 7]', "deny.1", "7; write a list of keys and networks"),
    (5, "[policies.Login]", "policies.Login.name", "'Login'; use up to 64 of a-z"),
    (5, '[policies."a b"]', 'policies."a b".name', "'a b'; use up to 64 of a-z"),
    (6, 'trak = ["1m"]', "policies.login_failed.trak", "unknown setting; did you mean 'track'?"),
    (6, 'track = "1m"', "policies.login_failed.track", "'1m'; write a list of durations, like ['1m', '10m']"),
    (6, 'track = ["1m", "1x"]', "policies.login_failed.track.1", "'1x' is not a duration; write a number"),
    (6, 'track = ["1m", "60s"]', "policies.login_failed.track", "['1m', '60s'] names a window twice; leave"),
    (6, 'mode = "of"', "policies.login_failed.mode", "'of'; write 'enforce' or 'shadow'"),
    (6, "allow = [true]", "policies.login_failed.allow.0", "True; write a list of keys and networks"),
    (6, 'deny = [""]', "policies.login_failed.deny", "['']; write a list of keys and networks"),
    (7, 'forgive_after = "11y"', "policies.login_failed.forgive_after", "'11y' is not a duration; write"),
    (7, 'forgive_after = "4000d"', "policies.login_failed.forgive_after", "'4000d'; it must be 1us to"),
    (8, 'on_error = "close"', "policies.login_failed.on_error", "'close'; write 'local', 'open' or 'closed'; did"),
    (10, "5,", "policies.login_failed.thresholds.0", "5; write a table of settings"),
    (10, '{ period = "1h", ban = 1 },', "policies.login_failed.thresholds.0.limit", "missing; write an integer"),
    (10, "{ limit = 1, ban = 1 },", "policies.login_failed.thresholds.0.period", "missing; write a duration"),
    (10, '{ limit = true, period = "1h" },', "policies.login_failed.thresholds.0.limit", "True; it must be an int"),
    (10, '{ limit = 1.5, period = "1h" },', "policies.login_failed.thresholds.0.limit", "1.5; it must be an int"),
    (10, "{ limit = 1, period = nan },", "policies.login_failed.thresholds.0.period", "nan is not a duration"),
    (10, "{ limit = 1, period = inf },", "policies.login_failed.thresholds.0.period", "inf is not a duration"),
    (
        10,
        f'{{ limit = 0x{"f" * 5000}, period = "1h" }},',
        "policies.login_failed.thresholds.0.limit",
        "9223372036854775808 per 1h; at most 100,000 a second",
    ),
    (10, '{ limit = 9, period = "1h", burst = 0 },', "policies.login_failed.thresholds.0.burst", "0; a throttle needs"),
    (10, '{ limit = 9, period = "1h", ban = [] },', "policies.login_failed.thresholds.0.ban", "[]; a ladder needs"),
    (
        10,
        '{ limit = 9, period = "1h", ban = ["1h", "1hh"] },',
        "policies.login_failed.thresholds.0.ban.1",
        "'1hh' is not a duration; write a number of seconds",
    ),
    (
        10,
        '{ limit = 9, period = "1h", actions = "block_local" },',
        "policies.login_failed.thresholds.0.actions",
        "'block_local'; write a list of names, like ['block_local']",
    ),
    (10, '{ limit = 9, period = "1h", bann = 1 },', "policies.login_failed.thresholds.0.bann", "unknown setting; did"),
    (11, '{ limit = 9, period = "1h", burst = 10, ban = "7d" },', "policies.login_failed.thresholds.1.limit",
     "9 per 1h; the rate is less than that of thresholds.0, so it could never trip; put the milder one first"),
    (11, '{ limit = 90, period = "1h", burst = 9, ban = "7d" },', "policies.login_failed.thresholds.1.burst",
     "9; it is less than that of thresholds.0, so it could never trip; put the milder one first"),
    (11, '{ limit = 100, period = "1h", ban = "59m" },', "policies.login_failed.thresholds.1.ban",
     "59m; it is shorter than that of thresholds.0; put the milder consequence first"),
    (15, "thresholds = []", "policies.api.thresholds", "[]; a policy needs a list of"),
    (15, "thresholds = 5", "policies.api.thresholds", "5; write a list of tables"),
    (15, "", "policies.api.thresholds", "[]; a policy needs a list of"),
    (18, "path = 5", "routes.0.path", "5; write a glob or a list of globs, like '/login*'"),
    (18, "except = [5]", "routes.0.except", "5; write a glob or a list of globs"),
    (18, "excluded = '/x'", "routes.0.excluded", "unknown setting; "),
    (19, 'methods = ["PO ST"]', "routes.0.methods", "'PO ST'; write a list of methods, like ['POST']"),
    (20, "status = [700]", "routes.0.status", "700; write codes from 100 to 599 and classes"),
    (20, 'status = "4x"', "routes.0.status", "4x; write codes from 100 to 599 and classes"),
    (21, 'policy = "login_faild"', "routes.0.policy", "unknown policy 'login_faild'; did you mean 'login_failed'?"),
    (21, 'policy = "zzz"', "routes.0.policy", "unknown policy 'zzz'; known: api, login_failed"),
    (21, "policy = 5", "routes.0.policy", "5; write the name of a policy, in quotes"),
    (21, "", "routes.0.policy", "missing; name one, or set skip = true"),
    (25, "skip = 1", "routes.1.skip", "1; write true or false"),
    (29, 'key = "ipp"', "routes.2.key", "'ipp'"),
    (29, "key = 5", "routes.2.key", "5; write a selector, like 'ip'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "text", "path", "mistake"), WRONG)
def test_each_wrong_setting_is_told_with_file_line_path_value_and_remedy(
    file: Path, line: int, text: str, path: str, mistake: str
) -> None:
    lines = DESIGN.split("\n")
    lines[line - 1] = text
    file.write_text("\n".join(lines))
    found = mistakes(file)
    where = {"policies.api.thresholds": (14, 15), "routes.0.policy": (17, 21)}.get(path, (line, line))
    starts = [f"{file}:{at}: {path}: {mistake}" for at in where]
    if path.endswith(".name"):
        found = tuple(each for each in found if "unknown policy" not in each)
    assert [each for each in found if each.startswith(tuple(starts))] == list(found)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("line", "text", "start"),
    [
        (25, "skip = true\ncost = 2", "26: routes.1.cost: a route with skip = true counts nothing; leave it out"),
        (28, 'policy = "api"\ncost = 0', "29: routes.2.cost: 0; it must be an integer from 1 to 1,000,000"),
        (28, 'policy = "api"\ncost = true', "29: routes.2.cost: True; it must be an integer from 1 to"),
    ],
)
def test_a_mistake_stands_on_the_line_of_its_own_setting(file: Path, line: int, text: str, start: str) -> None:
    lines = DESIGN.split("\n")
    lines[line - 1] = text
    file.write_text("\n".join(lines))
    (found,) = mistakes(file)
    assert found.startswith(f"{file}:{start}")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(file: Path) -> None:
    file.write_text(
        'mode = "of"\n'
        "[policies.a]\n"
        "thresholds = [\n"
        "  { limit = 0, burst = -1 },\n"
        '  { limt = 5, period = "1x" },\n'
        "]\n"
        'on_error = "x"\n'
        "[[routes]]\n"
        'policy = "b"\n'
        "cost = 0\n"
    )
    assert [each.removeprefix(f"{file}:").split(": ")[:2] for each in mistakes(file)] == [
        ["1", "mode"],
        ["4", "policies.a.thresholds.0.period"],
        ["4", "policies.a.thresholds.0.limit"],
        ["4", "policies.a.thresholds.0.burst"],
        ["5", "policies.a.thresholds.1.limt"],
        ["5", "policies.a.thresholds.1.period"],
        ["5", "policies.a.thresholds.1.limit"],
        ["7", "policies.a.on_error"],
        ["9", "routes.0.policy"],
        ["10", "routes.0.cost"],
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = [1,\n2", ":2: not TOML: Unclosed array, at column 2; write it as TOML"),
        ("\n\nmode = enforce\n", ":3: not TOML: Invalid value, at column 8; write it as TOML"),
        ("[policies.a]\n[policies.a]\n", ":2: not TOML: Cannot declare ('policies', 'a') twice, at column 12; give"),
        ("a = 1\na = 2\n", ":2: not TOML: Cannot overwrite a value, at column"),
        ("a = " + "9" * 5000, ":1: not TOML: "),
        ("a = " + "[" * 100_000, ": the settings are nested too deeply"),
        ("mode = '\x00'", ":1: not TOML: "),
    ],
)
def test_broken_toml_is_told_with_line_and_column(file: Path, text: str, start: str) -> None:
    file.write_text(text)
    (found,) = mistakes(file)
    assert found.startswith(f"{file}{start}")


# What the caller knows: the names of actions, and which stores there are.


def test_an_action_that_nobody_gives_is_told_with_its_line_and_the_nearest_name_beside_all_others(file: Path) -> None:
    file.write_text(
        "[policies.a]\n"
        "thresholds = [\n"
        '  { limit = 1, period = "1h", actions = ["tell",\n'
        '      "block_locl"] },\n'
        '  { limit = 0, period = "1h", actions = ["zzz"] },\n'
        "]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {"block_local", "tell"})
    assert caught.value.mistakes == (
        f"{file}:4: policies.a.thresholds.0.actions.1: unknown action 'block_locl', "
        "given by no installed plugin nor by the application; did you mean 'block_local'?",
        f"{file}:5: policies.a.thresholds.1.actions.0: unknown action 'zzz', "
        "given by no installed plugin nor by the application; known: block_local, record_local, report_central, tell",
        f"{file}:5: policies.a.thresholds.1.limit: 0; it must be an integer of at least 1",
    )


def test_without_the_known_names_any_action_may_be_given_later(file: Path) -> None:
    file.write_text('[policies.a]\nthresholds = [{ limit = 1, period = "1h", actions = ["tell"] }]\n')
    assert load(file).policies[0].thresholds[0].actions == ("tell",)


def test_from_config_tells_the_line_of_an_unknown_action(file: Path) -> None:
    file.write_text('[policies.a]\nthresholds = [{ limit = 1, period = "1h", actions = ["tel", "block_local"] }]\n')
    with pytest.raises(ConfigError, match=r"rules\.toml:2: .*unknown action 'tel', .*; did you mean 'tell'"):
        BanHammer.from_config(file, actions={"tell": print})


def test_a_backend_that_cannot_be_opened_is_a_mistake_only_where_it_would_be_opened(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def refuse(url: str) -> bool:
        opened.append(url)
        raise ConfigError(f"backend: {url}; not here")

    file.write_text('\nbackend = "memory://u:sesame@h"\n')
    assert load(file).backend == "memory://u:sesame@h"
    with pytest.raises(ConfigError) as caught:
        load(file, opener=refuse)
    assert caught.value.mistakes == (f"{file}:2: backend: memory://u:***@h; not here",)
    monkeypatch.setenv("BANHAMMER_BACKEND", "memory://there")
    with pytest.raises(ConfigError) as caught:
        load(file, opener=refuse)
    assert caught.value.mistakes == ("BANHAMMER_BACKEND: memory://there; not here",)
    assert opened == ["memory://u:sesame@h", "memory://there"]


def test_an_external_worker_is_a_mistake_with_a_store_that_keeps_no_escalations(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('mode = "enforce"\nworker = "external"\n')
    remedy = "keeps no escalations, so no other process can run them; use Redis, or leave worker out"
    with pytest.raises(ConfigError) as caught:
        load(file, opener=keeps_escalations)
    assert caught.value.mistakes == (f"{file}:2: worker: 'external'; memory:// {remedy}",)
    with pytest.raises(ConfigError, match=f"^worker: 'external'; this store {remedy}$"):
        BanHammer.from_config(file)
    monkeypatch.setenv("BANHAMMER_BACKEND", "redis://h")
    assert load(file, opener=keeps_escalations).worker == "external"
    file.write_text('backend = "redis://h"\nworker = "external"\n')
    monkeypatch.setenv("BANHAMMER_BACKEND", "memory://u:sesame@h")
    with pytest.raises(ConfigError) as caught:
        load(file, opener=keeps_escalations)
    assert caught.value.mistakes == (f"{file}:2: worker: 'external'; memory://u:***@h {remedy}",)


def test_an_action_whose_table_is_a_mistake_is_not_called_unknown_too(file: Path) -> None:
    file.write_text(
        '[actions.report_central]\nurl = "ftp://x"\n[policies.a]\n'
        'thresholds = [{ limit = 1, period = "1h", actions = ["report_central", "tell"] }]\n[actions.tell]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(file, ())
    assert [mistake.partition(";")[0] for mistake in caught.value.mistakes] == [
        f"{file}:2: actions.report_central.url: 'ftp://x'",
        f"{file}:5: actions.tell: given by no installed plugin nor by the application",
    ]
