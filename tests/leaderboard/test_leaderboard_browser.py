"""The leaderboard in a real browser, headless: sorts, filters, opens, for any screen and hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import NASTY, check_colours, errors, needs_browser, requests, sideways, tab_through
from browser import browser as browser  # fixtures
from browser import opened as opened
from made import write_entry

from crl.leaderboard import leaderboard

pytestmark = needs_browser

NAMES = ("packnet", "clonex", "ewc", "mas", "si", "redo", None)
SHOWN = ("return [...document.querySelectorAll('.board tr[data-entry]')].filter(r => !r.hidden)"
         ".map(r => r.querySelector('.name').textContent)")
LINES = ("return [...document.querySelectorAll('.chart.tall g')]"
         ".filter(g => getComputedStyle(g).display !== 'none').length")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("board")
    for i, method in enumerate(NAMES):
        write_entry(root / "runs", method, kept=0.95 - 0.12 * i)
    write_entry(root / "runs" / "nasty", agent={"name": NASTY}, kept=0.05)
    return leaderboard(root / "runs", root / "board")


def press(browser: Any, element: Any) -> None:
    browser.execute_script(
        "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
    element.click()


def column(browser: Any, number: int) -> list[float]:
    """The numbers of a column from top to bottom; NaN for none."""
    return [float(text or "nan") for text in browser.execute_script(
        "return [...document.querySelectorAll('.board tr[data-entry]')].map("
        "r => r.querySelectorAll('[data-value]')[arguments[0]].dataset.value)", number)]


def test_sorts_by_every_column_both_ways(opened: Callable[..., Any]) -> None:
    browser = opened()
    headings = browser.find_elements("css selector", ".board thead button")
    assert len(headings) == 8
    for number, heading in enumerate(headings):
        better = int(heading.get_attribute("data-better"))
        for sign in (better, -better):
            if number or sign != better:  # it opens sorted by the first
                press(browser, heading)
            values = column(browser, number)
            there = [value for value in values if value == value]
            assert there == sorted(there, reverse=sign > 0), (number, sign)
            assert all(value != value for value in values[len(there):])  # nothing known: last
            order = browser.execute_script(
                "return [...document.querySelectorAll('th[aria-sort]')].map("
                "h => [h.textContent, h.getAttribute('aria-sort')])")
            assert [way for _, way in order] == ["descending" if sign > 0 else "ascending"]
    assert errors(browser) == []


def test_filters_rows_and_lines_together(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert len(browser.execute_script(SHOWN)) == 8
    assert browser.execute_script(LINES) == 5
    box = browser.find_element("id", "filter")
    box.send_keys("SAC ew")
    assert browser.execute_script(SHOWN) == ["sac + ewc"]
    assert browser.execute_script(LINES) == 1
    assert browser.find_element("id", "count").text == "1 of 8"
    box.send_keys("\b" * 6)
    assert len(browser.execute_script(SHOWN)) == 8
    assert browser.find_element("id", "count").text == ""


def test_a_name_opens_its_tasks_which_stay_below_it(opened: Callable[..., Any]) -> None:
    browser = opened()
    button = browser.find_element("css selector", "[aria-controls=tasks-2]")
    tasks = browser.find_element("id", "tasks-2")
    assert not tasks.is_displayed()
    press(browser, button)
    assert button.get_attribute("aria-expanded") == "true"
    assert tasks.is_displayed()
    for word in ("arm-plain", "arm-crossed", "learned", "at the end", "transfer"):
        assert word in tasks.text
    assert len(tasks.find_elements("css selector", "svg path:not(.band)")) == 4
    press(browser, browser.find_elements("css selector", ".board thead button")[5])
    above = browser.execute_script("return arguments[0].previousElementSibling.dataset.entry",
                                   tasks)
    assert above == "2"
    box = browser.find_element("id", "filter")
    box.send_keys("packnet")
    assert not tasks.is_displayed()  # nor its entry
    box.send_keys("\b" * 7)
    assert tasks.is_displayed()
    press(browser, button)
    assert not tasks.is_displayed()
    assert errors(browser) == []


def test_a_chip_shows_and_hides_a_line(opened: Callable[..., Any]) -> None:
    browser = opened()
    for number, expected in ((7, 6), (0, 5), (0, 6)):
        press(browser, browser.find_elements("css selector", ".groups button")[number])
        assert browser.execute_script(LINES) == expected


def test_quiet_on_the_network_and_never_runs_text_from_users(opened: Callable[..., Any]) -> None:
    browser = opened()
    assert browser.title == "arm4 v1: 8 entries – crl leaderboard"
    assert NASTY in browser.execute_script("return document.querySelector('.board').textContent")
    assert not requests(browser)
    assert errors(browser) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_readable_at_any_width(opened: Callable[..., Any], width: int) -> None:
    browser = opened(width)
    browser.execute_script(
        "document.querySelectorAll('.board [aria-expanded]').forEach(b => b.click());"
        "document.querySelectorAll('details').forEach(d => d.open = true)")
    assert sideways(browser) == 0
    # Tasks stay on the screen, and so do names, when the table is scrolled sideways.
    browser.execute_script("document.querySelector('.board').scrollLeft = 300")
    for box in (".board .name button", "#tasks-0 ul", "#tasks-0 .chart", ".chart.tall"):
        assert browser.execute_script(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return r.left >= 0 && r.right <= innerWidth && r.width > 60", box), box
    small = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => e.childNodes.length && "
        "[...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && "
        "parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML.slice(0, 80))")
    assert small == []


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_in_light_and_dark(opened: Callable[..., Any], dark: bool) -> None:
    browser = opened(dark=dark)
    press(browser, browser.find_element("css selector", ".board [aria-expanded]"))
    check_colours(browser, dark)


def test_keyboard_reaches_and_works_everything(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('button, summary, input, .scroll, a[href], pre')]"
        ".filter(e => !e.closest('details:not([open])') || e.tagName === 'SUMMARY').length")
    reached = tab_through(browser, wanted + 10)
    assert len(reached) >= wanted
    button = browser.find_element("css selector", "[aria-controls=tasks-0]")
    browser.execute_script("arguments[0].focus()", button)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert browser.find_element("id", "tasks-0").is_displayed()
    heading = browser.find_elements("css selector", ".board thead button")[2]
    browser.execute_script("arguments[0].focus()", heading)
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    assert heading.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"


def test_headings_descend_one_level_at_a_time(opened: Callable[..., Any]) -> None:
    levels = opened().execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
