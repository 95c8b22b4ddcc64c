from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.durations import DAY, FOREVER, HOUR, MINUTE, SECOND, format_duration, parse_duration
from banhammer.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        (10, 10 * SECOND),
        (0.25, 250_000),
        ("10", 10 * SECOND),
        ("1.5", 1_500_000),
        ("500ms", 500_000),
        ("7us", 7),
        ("10s", 10 * SECOND),
        ("5m", 5 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("1D", DAY),
        (" 2w ", 14 * DAY),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_numbers_with_units(text: object, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize("value", [0, -1, "0s", "0", 0.0, 1e-9])
def test_nothing_is_no_duration(value: object) -> None:
    with pytest.raises(ConfigError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "1x",
        "1h 30m",
        "-5m",
        "1e3",
        "\uff11h",
        "h",
        "1hh",
        True,
        None,
        [],
        {},
        b"1h",
        math.nan,
        math.inf,
        -math.inf,
    ],
)
def test_what_is_no_duration_is_refused_with_the_value_and_the_remedy(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration(value)
    assert repr(value) in str(caught.value)
    assert "1h30m" in str(caught.value)


@pytest.mark.parametrize("value", [10**12, 10**30, "9" * 400, "9" * 400 + "w", 1e300, 2.0**53])
def test_a_duration_beyond_what_a_double_holds_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="too long"):
        parse_duration(value)


def test_millions_of_digits_are_a_configuration_mistake() -> None:
    with pytest.raises(ConfigError):
        parse_duration("9" * 1_000_001)


@pytest.mark.parametrize("value", ["forever", " Forever ", math.inf])
def test_forever_is_a_duration_only_where_it_is_allowed(value: object) -> None:
    assert parse_duration(value, forever=True) == FOREVER
    with pytest.raises(ConfigError, match="is not a duration"):
        parse_duration(value)


@given(st.integers(1, FOREVER - 1))
def test_a_formatted_duration_is_read_back_as_it_was(micros: int) -> None:
    assert parse_duration(format_duration(micros)) == micros


@given(st.integers(1, 10**9))
def test_whole_seconds_are_exact_as_number_and_as_text(seconds: int) -> None:
    assert parse_duration(seconds) == parse_duration(str(seconds)) == parse_duration(f"{seconds}s") == seconds * SECOND


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_configuration_mistake(text: str) -> None:
    try:
        micros = parse_duration(text, forever=True)
    except ConfigError:
        micros = FOREVER
    assert 0 < micros <= FOREVER


@pytest.mark.parametrize(
    ("micros", "text"),
    [(FOREVER, "forever"), (0, "0s"), (6 * MINUTE, "6m"), (HOUR, "1h"), (90 * MINUTE, "1h30m"), (1_001, "1ms1us")],
)
def test_durations_are_written_with_the_largest_units(micros: int, text: str) -> None:
    assert format_duration(micros) == text
