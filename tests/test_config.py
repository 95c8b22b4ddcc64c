from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banhammer.config import Config, load
from banhammer.durations import DAY, HOUR
from banhammer.errors import ConfigError
from banhammer.urls import redact, wrong_url
from example import DESIGN


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def mistakes(source: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(source)
    return caught.value.mistakes


def test_the_example_of_the_design_is_read_as_it_is_meant(file: Path) -> None:
    file.write_text(DESIGN)
    config = load(file)
    assert (config.backend, config.mode, config.allow, config.deny) == (
        "redis+cluster://10.0.0.5:7000",
        "enforce",
        ("10.0.0.0/8",),
        (),
    )
    assert (config.deadline, config.denial_cache, config.source) == (50_000, None, str(file))
    login, api = config.policies
    assert (login.name, login.track, login.forgive_after, login.on_error) == (
        "login_failed",
        ("1m", "10m", "60m"),
        30 * DAY,
        "closed",
    )
    assert [threshold.ban for threshold in login.thresholds] == [(HOUR, 6 * HOUR, DAY), (7 * DAY,)]
    assert api.thresholds[0].burst == 50
    first, second, third = config.routes
    assert (first.path, first.status, first.policy) == (("/login*",), ("401", "403"), "login_failed")
    assert second.skip
    assert (third.policy, third.key.text) == ("api", "ip/24/48")


def test_a_mapping_of_the_same_shape_gives_the_same_configuration(file: Path) -> None:
    file.write_text(DESIGN)
    from_file, from_mapping = load(file), load(tomllib.loads(DESIGN))
    assert from_mapping.source is None
    assert from_mapping.policies == from_file.policies
    assert from_mapping.routes == from_file.routes


def test_in_a_mapping_none_means_the_default_and_tuples_are_lists() -> None:
    config = load({"backend": None, "allow": ("a",), "policies": {"p": {"track": None, "thresholds": [
        {"limit": 1, "period": 1, "ban": None}]}}})  # fmt: skip
    assert (config.backend, config.allow, config.policies[0].thresholds[0].ban) == ("memory://", ("a",), ())


def test_a_file_that_is_not_utf_8_is_told_with_the_line_of_the_byte(file: Path) -> None:
    file.write_bytes(b"mode = 'enforce'\nallow = ['caf\xe9']\n")
    assert mistakes(file) == (f"{file}:2: byte 0xe9 is not UTF-8; save the file as UTF-8",)


def test_a_byte_order_mark_is_no_mistake(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfmode = 'shadow'\r\n")
    assert load(file).mode == "shadow"


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "none.toml"
    assert mistakes(missing) == (f"{missing}: no such file; name another, or write one with banhammer init",)
    assert mistakes(tmp_path) == (f"{tmp_path}: is a directory; name the file in it",)
    assert "is not the name of a file" in mistakes("a\0b")[0]

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert mistakes(missing) == (f"{missing}: cannot be read (Permission denied); let this user read it",)


def test_without_a_source_the_environment_or_the_working_directory_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mistakes(None)[0].startswith("banhammer.toml: no such file")
    Path("banhammer.toml").write_text("allow = ['here']")
    assert load().allow == ("here",)
    Path("other.toml").write_text("allow = ['there']")
    monkeypatch.setenv("BANHAMMER_CONFIG", "other.toml")
    assert load().allow == ("there",)
    assert load("banhammer.toml").allow == ("here",)


def test_the_environment_overrides_backend_and_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANHAMMER_BACKEND", "memory://?max_keys=5")
    monkeypatch.setenv("BANHAMMER_MODE", "shadow")
    config = load({"backend": "redis://h", "mode": "enforce"})
    assert (config.backend, config.mode) == ("memory://?max_keys=5", "shadow")


def test_a_wrong_environment_is_told_beside_the_mistakes_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANHAMMER_BACKEND", "redsi://:sesame@h")
    monkeypatch.setenv("BANHAMMER_MODE", "shaddow")
    found = mistakes({"allow": 5})
    assert found[0].startswith("allow: 5;")
    assert found[1] == "BANHAMMER_BACKEND: 'redsi://:***@h' has an unknown scheme; did you mean 'redis'?"
    assert found[2] == "BANHAMMER_MODE: 'shaddow'; write 'enforce' or 'shadow'; did you mean 'shadow'?"


SECRETS = [
    "redis://:sesame@h:6379/0",
    "redis://user:sesame@h",
    "redis://user:se:sam@e:sesame@h",
    "redis://user:a/sesame@h",
    "redsi://user:sesame@h",
    "redis:/user:sesame@h",
    "redis//:sesame@h",
    "user:sesame@h",
    "redis://sesame@h",
    "redis+sentinel://user:sesame@h1:1,h2:2/main",
    "redis://h/0?password=sesame&db=1",
    "redis://h/0?sentinel_password=sesame",
    "redsi://h?password=ab'sesame",
    "redis://h?password=a%26&sesame",
    "redis://h?password=ab@sesame",
    "redis://:ses?sesame@h",
    "redis://user:sesame",
    "redis://[::1]:sesame/0",
    "memory://u:sesame@h\u2100.com",
    "u:sesame://h",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_a_url_is_never_shown(url: str) -> None:
    assert "sesame" not in redact(url)
    assert "***" in redact(url) or "***" in str(wrong_url(url))
    for source in ({"backend": url}, {"backend": [url]}, {"backend": {"a": url}}, {"mode": url}, {"allow": url}):
        try:
            shown = repr(load(source))
        except ConfigError as error:
            shown = str(error)
        assert "sesame" not in shown


@pytest.mark.parametrize("url", ["memory://", "redis://h:1/0", "redis+cluster://a:1,b:2", "redis://[::1]:6379/0"])
def test_a_url_without_a_secret_is_shown_as_it_is(url: str) -> None:
    assert redact(url) == url


@pytest.mark.parametrize("text", ["sesame", "sesame@x", "redis:sesame", "redis1sesame", "se:sa", "localhost:6379"])
def test_a_text_without_a_scheme_is_not_shown_as_a_backend(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "'***' is not a URL; use one of memory://, redis://"
    assert mistakes({"backend": text})[0].startswith(f"backend: {expected}")
    monkeypatch.setenv("BANHAMMER_BACKEND", text)
    assert mistakes({})[0].startswith(f"BANHAMMER_BACKEND: {expected}")


@pytest.mark.parametrize("text", ["redis", "Memory", "reddis", "memcache", "redis+clustr"])
def test_a_text_that_is_nearly_a_scheme_is_shown_as_a_backend(text: str) -> None:
    assert mistakes({"backend": text})[0].startswith(f"backend: {text!r} is not a URL; ")


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"password": "sesame"}, "a table"), (["sesame"], "a list"), (0.5, "a number"), (True, "true or false"),
     (b"sesame", "no text")],
)  # fmt: skip
def test_a_backend_of_another_type_is_told_by_its_type_alone(value: object, kind: str) -> None:
    assert mistakes({"backend": value}) == (f"backend: {kind}; write the URL of a store, like 'memory://'",)


@pytest.mark.parametrize(
    "text",
    [
        '"redis://:sesame@h" = 1',
        '"sesame@h" = 1',
        '[policies."redis://:sesame@h"]',
        '[policies."redis://\\":sesame@h"]',
        '["redis://:sesame@h"]\n["redis://:sesame@h"]',
        '[backend]\npassword = "sesame"',
        '[[backend]]\npassword = "sesame"',
        'mode = { password = "sesame" }',
        'allow = ["a", 5, "redis://:sesame@h"]',
        'deadline = ["redis://:sesame@h"]',
        'deadline = "redis://:sesame@h"',
        '[[routes]]\npolicy = "redis://:sesame@h"',
        '[policies.a]\nthresholds = [{limit = 1, period = "redis://:sesame@h"}]',
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(text: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "sesame" not in "".join(traceback.format_exception(caught.value))


_names = st.sampled_from(
    ["backend", "mode", "allow", "deny", "deadline", "denial_cache", "policies", "routes", "thresholds", "limit",
     "period", "burst", "ban", "actions", "track", "forgive_after", "on_error", "path", "except", "methods",
     "status", "policy", "key", "cost", "skip", "a", "A b", "a.b", ""]
)  # fmt: skip
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    | st.sampled_from(["1h", "forever", "ip", "shadow", "memory://", "4xx", 1, 10, 401, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.integers(0, 3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(_names | st.integers(), _values, max_size=5)
    | st.fixed_dictionaries(
        {},
        optional={
            "policies": st.dictionaries(_names, st.dictionaries(_names, _values, max_size=4), max_size=2),
            "routes": st.lists(st.dictionaries(_names, _values, max_size=4), max_size=2),
        },
    )
    | st.builds(
        lambda threshold: {"policies": {"a": {"thresholds": [threshold]}}},
        st.dictionaries(st.sampled_from(["limit", "period", "burst", "ban", "actions"]), _values, max_size=5),
    )
)
def test_any_mapping_is_a_configuration_or_a_configuration_mistake(mapping: Any) -> None:
    found: Config | ConfigError
    try:
        found = load(mapping)
    except ConfigError as error:
        found = error
    assert isinstance(found, Config) or found.mistakes


def test_a_mapping_that_holds_itself_is_a_configuration_mistake() -> None:
    endless: dict[str, Any] = {}
    endless["allow"] = endless
    assert mistakes(endless) == ("the settings are nested too deeply",)


def test_a_number_too_long_to_be_written_is_a_configuration_mistake() -> None:
    (found,) = mistakes({"policies": {"a": {"thresholds": [{"limit": 10**5000, "period": 1}]}}})
    assert found == "policies.a.thresholds.0.limit: 9223372036854775808 per 1s; at most 100,000 a second"


def test_a_mapping_is_left_as_it_was() -> None:
    mapping = {"alow": [1], "policies": {"a": {"thresholds": 5}}}
    mistakes(mapping)
    assert mapping == {"alow": [1], "policies": {"a": {"thresholds": 5}}}


def test_importing_the_package_loads_no_optional_package() -> None:
    code = (
        "import sys, banhammer\n"
        "print([name for name in ('redis', 'pymemcache', 'pydantic', 'typer', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"
