"""The page of a replay: well-formed, self-contained, readable, and safe whatever a log holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.replay.axes import clock_ticks, count_ticks, short, span
from banhammer.replay.charts import headroom, timeline
from banhammer.replay.lanes import LANES, bans_over_time
from banhammer.replay.markup import plain, text
from banhammer.replay.page import render
from banhammer.replay.summary import BanReport, Bucket, Headroom, Summary
from replay_summaries import HOSTILE, HOUR, START, hostile, large, single, unread, usual

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "link", "br"}
HEADINGS = {"h1", "h2", "h3"}
CASES = {"usual": usual, "unread": unread, "single": single, "hostile": hostile, "large": large}


class Outline(HTMLParser):
    """What a page consists of; closing tags must match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in HEADINGS:
            self.headings.append(data)


def charts(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def shown(chart: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in chart.iter(f"{SVG}text")]


def tooltips(chart: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in chart.iter(f"{SVG}title")][1:]


def bars(chart: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [element for element in chart.iter(f"{SVG}rect") if element.get("class") == kind]


@pytest.mark.parametrize("case", CASES)
def test_every_page_is_well_formed_and_its_ids_are_unique(case: str) -> None:
    outline = Outline(render(CASES[case]()))
    assert len(outline.ids) == len(set(outline.ids))
    assert {"html", "title", "h1", "main", "section"} <= outline.tags


@pytest.mark.parametrize("case", CASES)
def test_no_page_has_a_script_or_anything_to_load(case: str) -> None:
    page = render(CASES[case]())
    outline = Outline(page)
    assert not outline.tags & {"script", "img", "iframe", "object", "embed", "form", "base", "use", "image"}
    for name, value in outline.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "style"):
            assert value.startswith(("#", "data:,"))
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


@pytest.mark.parametrize("case", CASES)
def test_every_chart_is_well_formed_and_says_in_words_what_it_shows(case: str) -> None:
    found = charts(render(CASES[case]()))
    assert len(found) == {"usual": 5, "unread": 0, "single": 2, "hostile": 5, "large": 18}[case]
    for chart in found:
        title, description = chart.find(f"{SVG}title"), chart.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert title.text
        assert len(description.text or "") > 20
        assert chart.get("role") == "img"
        assert chart.get("aria-labelledby") == title.get("id")
        assert chart.get("aria-describedby") == description.get("id")


@pytest.mark.parametrize("case", CASES)
def test_every_page_can_be_written_as_utf_8_and_read_again(case: str) -> None:
    page = render(CASES[case]())
    assert page.encode().decode() == page
    assert all(character.isprintable() or character in "\n\u00a0" for character in page)


def test_a_page_of_ten_thousand_lines_is_small_at_the_worst() -> None:
    assert len(render(usual()).encode()) < 100_000
    assert len(render(large()).encode()) < 300_000


def test_the_sentence_and_four_figures_stand_on_top() -> None:
    summary = usual()
    page = render(summary)
    heading = page[page.index("<h1>") + 4 : page.index("</h1>")]
    assert heading.replace("\u00a0", " ") == summary.sentence
    assert re.findall(r'class="value">([^<]+)<', page)[3] == "23"
    assert len(re.findall(r'<li class="is-\w+"><span class="what">', page)) == 4
    assert page.index('class="figures"') < page.index("<svg")


def test_the_sections_stand_in_their_order() -> None:
    assert [heading for heading in Outline(render(usual())).headings[1:] if heading[0].isupper()] == [
        "Requests over time",
        "Denied although served",
        "Bans over time",
        "Policies and thresholds",
        "Headroom",
        "Worst keys",
        "The rules in words",
        "Never fired",
        "Not replayable: the log does not hold their keys",
        "Doubts",
        "Next step",
    ]


def test_the_last_command_of_the_next_step_is_set_off() -> None:
    page = render(usual())
    assert "edit banhammer.toml, then</p>" in page
    assert '<pre class="code">banhammer replay access.log</pre>' in page


def test_what_other_limits_would_have_denied_stands_below_each_histogram() -> None:
    page = render(usual())
    rows = re.findall(r'class="whatif">.*?</table>', page, re.DOTALL)
    assert len(rows) == 3
    assert re.findall(r'<td class="number(?: now)?">([\d,]+)<', rows[0]) == ["340", "34", "12", "0"]
    assert re.findall(r"<br>([\d,.]+)<", rows[0]) == ["5", "10", "20", "40"]


# Empty states


def test_without_a_request_the_page_says_why_first() -> None:
    page = render(unread())
    assert "nothing to draw" in page
    assert page.index("Doubts") < page.index("The rules in words")
    assert "-:1: no time: GET /" in page
    assert "standard input" in page


def test_skipped_lines_are_a_doubt_even_where_no_sentence_says_so() -> None:
    page = render(Summary(lines=2, skipped=2))
    assert "2 of 2 lines could not be read." in page
    assert ">1 doubt</a>" in page


def test_one_request_is_drawn_as_one_bar() -> None:
    page = render(single())
    assert len(bars(charts(page)[0], "allowed")) == 1
    assert "10:00:00" in shown(charts(page)[0])
    for words in ("No bans", "No key was kept out", "the rules kept nothing out", "None: every line could be read"):
        assert words in page


def test_denials_that_the_log_denied_too_hurt_nobody() -> None:
    summary = usual()
    summary.denied_served, summary.served = 0, []
    assert "was also refused in the log" in render(summary)


def test_rules_without_a_policy_have_no_tables() -> None:
    summary = single()
    summary.policies = []
    page = render(summary)
    assert "The rules hold no policy" in page
    assert "No request reached a policy" in page


def test_a_threshold_that_saw_no_key_has_dashes_and_no_histogram() -> None:
    summary = single()
    summary.thresholds[0].headroom = Headroom()
    page = render(summary)
    assert page.count('<td class="number">\u2013</td>') == 3
    assert len(charts(page)) == 1


# Hostile words


def test_an_attackers_words_are_shown_and_never_live() -> None:
    page = render(hostile())
    assert "<img" not in page
    assert "</script" not in page
    assert "<!--" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "\\x00\\x1b[31m\\u202e\\u200f\\udc80\\ufffe\\r\\n" in page
    assert "${page}" in page


@pytest.fixture(scope="module")
def plain_tags() -> set[str]:
    return Outline(render(hostile("x"))).tags


@given(words=st.text(st.characters(), max_size=40))
def test_no_words_whatever_break_the_page(plain_tags: set[str], words: str) -> None:
    page = render(hostile(words))
    assert len(charts(page)) == 5
    assert Outline(page).tags == plain_tags
    page.encode()


@given(st.text(st.characters(), max_size=300), st.integers(2, 300))
def test_a_text_is_cut_printable_and_escaped(words: str, most: int) -> None:
    assert len(plain(words, most)) <= most
    assert plain(words, most).isprintable()
    assert not set(text(words, most)) & set("<>\"'")


def test_long_words_are_cut() -> None:
    page = render(hostile("A" * 65_536))
    assert len(page) < 100_000
    assert "A" * 1_001 not in page


def test_a_plain_text_is_not_changed() -> None:
    assert text("Mozilla/5.0 \u00e9\u4e16") == "Mozilla/5.0 \u00e9\u4e16"
    assert plain("abcdef", 4) == "abc\u2026"
    assert plain(HOSTILE, 8) == "</scrip\u2026"


# Charts


def test_bars_of_the_timeline_are_as_high_as_their_numbers() -> None:
    chart = ElementTree.fromstring(timeline([Bucket(0, 60, 100, 50, 0), Bucket(60, 60, 50)]))
    first, second = bars(chart, "allowed")
    assert float(first.get("height", 0)) == pytest.approx(2 * float(second.get("height", 0)), abs=0.2)
    assert [element.get("class") for element in chart.iter(f"{SVG}rect")].count("throttled") == 2
    assert tooltips(chart) == [
        "1 Jan 1970, 00:00:00 UTC \u00b7 100 allowed \u00b7 50 throttled \u00b7 0 banned",
        "1 Jan 1970, 00:01:00 UTC \u00b7 50 allowed \u00b7 0 throttled \u00b7 0 banned",
    ]


def test_bans_are_marked_and_counted_where_there_is_room() -> None:
    chart = ElementTree.fromstring(timeline([Bucket(60 * index, 60, 9, 0, 1, 3) for index in range(72)]))
    assert len(list(chart.iter(f"{SVG}path"))) == 72
    assert 10 < shown(chart).count("3") < 40
    assert "3 bans began" in tooltips(chart)[0]


def test_the_panel_of_the_kept_out_is_there_only_when_somebody_was() -> None:
    assert "on its own scale" in timeline([Bucket(0, 60, 9, 1)])
    assert "on its own scale" not in timeline([Bucket(0, 60, 9)])


def test_headroom_shows_one_key_beside_a_million() -> None:
    chart = ElementTree.fromstring(headroom("h-0", "api.0", [1_000_000, *[0] * 18, 1], 7, "banned"))
    heights = [float(bar.get("height", 0)) for bar in bars(chart, "allowed")]
    assert len(heights) == 2
    assert heights[1] > 4
    assert tooltips(chart) == ["0 to 5 % full: 1,000,000 keys", "95 to 100 % full: 1 key", "over the limit: 7 keys"]


def test_headroom_of_nobody_is_an_empty_chart() -> None:
    chart = ElementTree.fromstring(headroom("h-0", "api.0", [0] * 20, 0, "throttled"))
    assert not list(chart.iter(f"{SVG}rect"))
    assert "limit" in shown(chart)


def test_each_banned_key_has_a_lane_and_each_ban_a_bar() -> None:
    summary = usual()
    chart = ElementTree.fromstring(bans_over_time(summary.bans, START, START + 72 * HOUR))
    words = shown(chart)
    assert [word for word in words if word.startswith(("203", "2001", "198"))] == [
        "203.0.113.9",
        "2001:db8:17:2a::/64",
        "198.51.100.23",
    ]
    assert len(bars(chart, "banned")) == 5
    assert "for ever" in words
    assert "to 25 May 05:00" in words
    assert "the log ends" in words


def test_a_lengthened_ban_ends_where_the_longer_one_begins() -> None:
    bans = [BanReport("k", "p", 0, 0, 500, 1, "a"), BanReport("k", "p", 1, 250, 900, 1, "b")]
    first, second = bars(ElementTree.fromstring(bans_over_time(bans, 0, 1_000)), "banned")
    left, width = float(first.get("x", 0)), float(first.get("width", 0))
    assert left + width == pytest.approx(float(second.get("x", 0)) - 1, abs=0.2)


def test_keys_that_look_alike_when_masked_do_not_cut_each_others_bans() -> None:
    bans = [BanReport("203.0.113.x", "p", 0, 0, 900, 1, "a"), BanReport("203.0.113.x", "p", 0, 250, 300, 1, "b")]
    first, second = bars(ElementTree.fromstring(bans_over_time(bans, 0, 1_000)), "banned")
    assert float(first.get("width", 0)) > 10 * float(second.get("width", 0))


def test_bans_within_the_log_need_no_room_behind_it() -> None:
    chart = bans_over_time([BanReport("k", "p", 0, 10, 20, 1, "a")], 0, 100)
    assert "the log ends" not in chart


def test_a_ban_at_the_only_moment_of_a_log_is_drawn() -> None:
    for until in (START, START + 60, float("inf")):
        chart = ElementTree.fromstring(bans_over_time([BanReport("k", "p", 0, START, until, 1, "a")], START, START))
        assert float(bars(chart, "banned")[0].get("width", 0)) >= 3


def test_lanes_are_capped_and_the_page_says_so() -> None:
    summary = usual()
    summary.bans = [
        BanReport(f"k{index}", "p", 0, START + index, START + 60 + 2 * index, 1, "x") for index in range(130)
    ]
    page = render(summary)
    chart = charts(page)[1]
    lanes = [word for word in shown(chart) if re.fullmatch(r"k\d+", word)]
    assert lanes == [f"k{index}" for index in range(130 - LANES, 130)]
    assert "114 more are left out" in page
    assert "30 bans more: left out here." in page


def test_bans_too_close_to_draw_share_a_bar_that_counts_them() -> None:
    bans = [BanReport("k", "p", 0, index * 10, index * 10 + 5, index, "x") for index in range(1_000)]
    chart = ElementTree.fromstring(bans_over_time(bans, 0, 10_000))
    assert 20 < len(bars(chart, "banned")) < 60
    assert re.match(r"\d+ bans here, the last: ", tooltips(chart)[1])


# Axes


@given(st.integers(0, 7_000_000_000), st.integers(1, 400_000_000))
def test_clock_ticks_are_few_round_and_inside(start: int, length: int) -> None:
    ticks = clock_ticks(start, start + length)
    assert len(ticks) <= 8
    assert all(start <= tick.at <= start + length for tick in ticks)
    assert len({b.at - a.at for a, b in pairwise(ticks)}) <= 1


def test_clock_ticks_name_the_day_once() -> None:
    ticks = clock_ticks(START, START + 20 * HOUR)
    assert [(tick.label, tick.below) for tick in ticks] == [
        ("12:00", "17 May"),
        ("15:00", ""),
        ("18:00", ""),
        ("21:00", ""),
        ("00:00", "18 May"),
        ("03:00", ""),
        ("06:00", ""),
    ]


@given(st.integers(0, 10**12), st.integers(1, 8))
def test_count_ticks_are_few_and_cover_the_highest(highest: int, most: int) -> None:
    ticks = count_ticks(highest, most)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= most + 1
    assert ticks[-1] >= max(highest, 1)
    assert ticks[-2] < max(highest, 1)
    assert str(ticks[1]).rstrip("0") in ("1", "2", "5")


def test_numbers_and_spans_are_short() -> None:
    assert [short(number) for number in (0, 950, 1_500, 20_000, 3_000_000)] == ["0", "950", "1.5k", "20k", "3M"]
    assert [span(seconds) for seconds in (0.0004, 5_400, 604_799.9999, float("inf"))] == [
        "0s",
        "1h30m",
        "7d",
        "for ever",
    ]


# Colours


def _luminance(colour: str) -> float:
    channels = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_are_told_apart_by_lightness_alone(scheme: int) -> None:
    style = (files("banhammer.replay") / "page.css").read_text(encoding="utf-8")
    colours = {
        name: found[scheme]
        for name in ("page", "card", "ink", "muted", "allowed", "throttled", "banned", "accent")
        if (found := re.findall(rf"--{name}: (#[0-9a-f]{{6}});", style))
    }
    for ground in ("page", "card"):
        assert _contrast(colours[ground], colours["ink"]) > 12
        assert _contrast(colours[ground], colours["muted"]) > 4.5
        assert _contrast(colours[ground], colours["accent"]) > 4.5
    verdicts = ("allowed", "throttled", "banned")
    assert all(_contrast(colours["card"], colours[verdict]) > 3 for verdict in verdicts)
    for one, other in (("allowed", "throttled"), ("allowed", "banned"), ("throttled", "banned")):
        assert _contrast(colours[one], colours[other]) > 1.4
