from __future__ import annotations

import tomllib
from typing import Any

import pytest

from banhammer.toml_lines import find_lines, line_of
from example import DESIGN

LAYOUTS = '''# policies.x = 1
title = """
[policies.no]
limit = "not here" \\"""
"""
raw = \'\'\'
[[routes]]\'\'\'
a.b . "c d" = { x = 1, "y.z" = [ 1, # ] }
  2 ] }
[policies."we.b"] # [not]
thresholds = [
  # a comment, with ] and }
  { limit = 10, ban = ["1h",
      "6h"], s = "a # } ] \\" b" },

  {limit=1},
]
[[ routes ]]
policy = 'x'
[[routes]]
policy = "y"
  [routes.sub]
  k = 1
[[routes]]
[[policies.p.thresholds]]
limit = 1
[[policies.p.thresholds]]
limit = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("raw",), 6),
        (("a", "b", "c d"), 8),
        (("a", "b", "c d", "x"), 8),
        (("a", "b", "c d", "y.z", 1), 9),
        (("policies", "we.b"), 10),
        (("policies", "we.b", "thresholds"), 11),
        (("policies", "we.b", "thresholds", 0), 13),
        (("policies", "we.b", "thresholds", 0, "ban"), 13),
        (("policies", "we.b", "thresholds", 0, "ban", 1), 14),
        (("policies", "we.b", "thresholds", 0, "s"), 14),
        (("policies", "we.b", "thresholds", 1, "limit"), 16),
        (("routes",), 18),
        (("routes", 0, "policy"), 19),
        (("routes", 1), 20),
        (("routes", 1, "policy"), 21),
        (("routes", 1, "sub", "k"), 23),
        (("routes", 2, "policy"), 24),
        (("policies", "p", "thresholds", 0, "limit"), 26),
        (("policies", "p", "thresholds", 1, "limit"), 28),
        (("policies", "p", "thresholds", 1, "period"), 27),
        (("nothing",), 1),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_line_of_a_setting_is_found_in_every_layout(path: tuple[str | int, ...], line: int, ending: str) -> None:
    document = LAYOUTS.replace("\n", ending)
    tomllib.loads(document)
    assert line_of(find_lines(document), path) == line


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = [_paths(item, (*path, key)) for key, item in items]
    return {path}.union(*inner)


@pytest.mark.parametrize("document", [LAYOUTS, DESIGN, "", "a = 1", 'a = """x"""""\nb = []\nc = {}\nd = [[], [[]]]'])
def test_the_locator_finds_exactly_the_settings_that_tomllib_finds(document: str) -> None:
    assert set(find_lines(document)) | {()} == _paths(tomllib.loads(document))
