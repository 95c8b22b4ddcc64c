"""The page of a replay in a real browser: it fits, it is drawn, it is dark where asked, and it asks for nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from banhammer.replay.page import render

sys.path.insert(0, str(Path(__file__).parent.parent))
from replay_summaries import hostile, large, single, unread, usual  # It stands beside the other tests.

PAGES = {"usual": usual, "unread": unread, "single": single, "hostile": hostile, "large": large}
CHARTS = {"usual": 5, "unread": 0, "single": 2, "hostile": 5, "large": 18}
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WIDTHS = "const root = document.documentElement; return [innerWidth, root.clientWidth, root.scrollWidth]"
BOXES = "return [...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing; install it with: apt-get install chromium chromium-driver")
    return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    driver.get("about:blank")  # The browser's own first page would still be loading what it shows.
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    for name, summary in PAGES.items():
        (made / f"{name}.html").write_text(render(summary()), encoding="utf-8")
    return made


def _show(browser: webdriver.Chrome, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())


def _requests(browser: webdriver.Chrome) -> list[str]:
    events: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def _lightness(browser: webdriver.Chrome, css: str) -> float:
    script = f"return getComputedStyle(document.body).{css}"
    red, green, blue = json.loads(browser.execute_script(script).replace("rgb(", "[").replace(")", "]"))
    return float(red + green + blue) / 765


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_the_console_stays_silent(
    browser: webdriver.Chrome, folder: Path, name: str
) -> None:
    page = folder / f"{name}.html"
    _show(browser, page)
    asked = _requests(browser)
    assert asked[0] == page.as_uri()
    assert all(url.startswith("data:") for url in asked[1:])
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_every_chart_is_drawn_and_no_page_is_wider_than_its_screen(
    browser: webdriver.Chrome, folder: Path, name: str, width: int
) -> None:
    _show(browser, folder / f"{name}.html", width=width)
    screen, room, needed = browser.execute_script(WIDTHS)
    assert screen == width
    assert needed <= room
    boxes = browser.execute_script(BOXES)
    assert len(boxes) == CHARTS[name]
    assert all(across > 200 and down > 100 for across, down in boxes)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme(browser: webdriver.Chrome, folder: Path, scheme: str, dark: bool) -> None:
    _show(browser, folder / "usual.html", scheme=scheme)
    assert (_lightness(browser, "backgroundColor") < 0.15) is dark
    assert (_lightness(browser, "color") > 0.85) is dark


def test_paper_is_light_and_shows_whole_charts(browser: webdriver.Chrome, folder: Path) -> None:
    _show(browser, folder / "usual.html", scheme="dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert _lightness(browser, "backgroundColor") == 1
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_word_of_an_attacker_runs_or_adds_an_element(browser: webdriver.Chrome, folder: Path) -> None:
    _show(browser, folder / "hostile.html")
    assert browser.execute_script("return document.querySelectorAll('img, script, iframe, object').length") == 0
    assert "</script><img src=x onerror=alert(1)>" in browser.execute_script("return document.body.textContent")


def test_charts_have_names_for_those_who_do_not_see_them(browser: webdriver.Chrome, folder: Path) -> None:
    _show(browser, folder / "usual.html")
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    pictures = [node for node in tree if node.get("role", {}).get("value") in ("image", "img")]
    named = {node["name"]["value"]: node["description"]["value"] for node in pictures}
    assert len(named) == 5
    assert "kept out" in named["Requests over time"]
    assert "5 bans" in named["Bans over time, a lane for each key"]
