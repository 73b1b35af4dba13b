"""The page in a real browser, headless: drawn, alive under the mouse, quiet on the network."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import NASTY, check_colours, errors, needs_browser, requests, sideways, tab_through
from browser import browser as browser  # fixtures
from browser import opened as opened
from synthetic import TASKS, write_run

from crl.report import report

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    runs = [write_run(root / f"{method}-{seed}", method=method, seed=seed)
            for method in (None, "packnet") for seed in (0, 1)]
    runs += [write_run(root / "nasty", label=NASTY),
             write_run(root / "late", seed=7, status="running", stop_at=0.5),
             write_run(root / "other", protocol="other", tasks=[*TASKS[:1], NASTY])]
    return report(runs, root / "report")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for something the browser does in its own time."""
    for _ in range(200):
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"waited in vain for {what}")


def draw_all(browser: Any) -> int:
    """Scrolls through the page so that every visible figure is drawn; how many there are."""
    count: int = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].filter(p => p.offsetParent).length")
    for i in range(count):
        browser.execute_script(
            "[...document.querySelectorAll('.plot')].filter(p => p.offsetParent)[arguments[0]]"
            ".scrollIntoView({behavior: 'instant', block: 'center'})", i)
        until(lambda i=i: browser.execute_script(
            "const p = [...document.querySelectorAll('.plot')].filter(p => p.offsetParent)"
            "[arguments[0]]; return p.querySelectorAll("
            "'.scatterlayer path.js-line, .heatmaplayer image').length", i), f"figure {i}")
    return count


def test_every_figure_is_drawn_without_errors_or_network(opened: Callable[..., Any]) -> None:
    browser = opened()
    # Two sections: curves, mean and returns each, and a matrix for each of five groups.
    assert draw_all(browser) == 2 * 4 + 5
    assert errors(browser) == []
    assert browser.execute_script("return performance.getEntriesByType('resource')"
                                  ".map(e => e.name).filter(n => !/^(data|blob):/.test(n))") == []
    assert not requests(browser)


def test_text_from_users_is_shown_and_never_run(opened: Callable[..., Any]) -> None:
    browser = opened()
    draw_all(browser)
    assert browser.title.endswith("crl report")
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert NASTY in browser.execute_script("return document.querySelector('.cards').textContent")
    # plotly.js takes a few tags in titles as markup and must take these as text.
    assert "<script>" in browser.execute_script(
        "return document.querySelector('#curves-1').textContent")


def test_hover_shows_the_values_of_every_group(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser = opened()
    draw_all(browser)
    plot = browser.find_element(By.ID, "curves-0")
    browser.execute_script(
        "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", plot)
    panel = plot.find_element(By.CSS_SELECTOR, ".nsewdrag")

    def label() -> str:
        text: str = browser.execute_script(
            "return arguments[0].querySelector('.hoverlayer').textContent", plot)
        return text

    ActionChains(browser).move_to_element(panel).move_by_offset(7, 3).perform()
    text = until(label, "the hover label")
    assert "steps" in text
    for name in ("sac + packnet", "sac + fine-tuning"):
        value, interval = text.split(name, 1)[1].split("(", 1)
        assert 0 <= float(value.strip(" :")) <= 1
        assert " to " in interval.split(")")[0]
    matrix = browser.find_element(By.ID, "matrix-0-0")
    browser.execute_script(
        "arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", matrix)
    cell = matrix.find_element(By.CSS_SELECTOR, ".nsewdrag")
    ActionChains(browser).move_to_element(cell).perform()
    hover = until(lambda: browser.execute_script(
        "return arguments[0].querySelector('.hoverlayer').textContent", matrix), "a cell's label")
    assert TASKS[1] in hover
    assert "success" in hover


@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scroll_and_tables_scroll_inside(
    opened: Callable[..., Any], width: int
) -> None:
    browser = opened(width, 844)
    draw_all(browser)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert sideways(browser) == 0
    for box in ("main", ".metrics", "#curves-0 svg"):
        assert browser.execute_script(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return r.left >= 0 && r.right <= innerWidth", box), box
    assert browser.execute_script(
        "const m = document.querySelector('.metrics'); return m.scrollWidth > m.clientWidth")


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_in_light_and_dark(opened: Callable[..., Any], dark: bool) -> None:
    browser = opened(dark=dark)
    draw_all(browser)
    check_colours(browser, dark)


def test_figures_follow_a_change_to_dark(opened: Callable[..., Any]) -> None:
    browser = opened()
    draw_all(browser)
    colour = ("return getComputedStyle(document.querySelector("
              "'#curves-0 .scatterlayer path.js-line')).stroke")
    before = browser.execute_script(colour)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": "dark"}]})
    until(lambda: browser.execute_script(colour) != before, "new colours")
    assert errors(browser) == []


def test_keyboard_reaches_and_works_everything(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    draw_all(browser)
    wanted = browser.execute_script(
        "return document.querySelectorAll('button, summary, .scroll, a[href], pre').length")
    reached = tab_through(browser, wanted + 15)
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('details:not([open]) .scroll')].length")
    assert len(reached) >= wanted - hidden
    button = browser.find_element("css selector", ".groups [data-group]")
    browser.execute_script("arguments[0].focus()", button)
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    assert button.get_attribute("aria-pressed") == "false"
    until(lambda: browser.execute_script("return document.getElementById('curves-0')"
                                         ".data.every(t => t.meta.group !== 0)"), "a group to go")
    assert not browser.find_element("css selector", ".matrices figure").is_displayed()


def test_many_groups_start_with_few_and_can_all_be_shown(
    browser: Any, tmp_path: Path
) -> None:
    runs = [write_run(tmp_path / f"{i}", agent={"learning_rate": 1e-4 * (i + 1)})
            for i in range(12)]
    browser.get(report(runs, tmp_path / "report").as_uri())
    draw_all(browser)
    groups = ("return new Set(document.getElementById('curves-0').data"
              ".map(t => t.meta.group)).size")
    assert browser.execute_script(groups) == 7
    everything, nothing = browser.find_elements("css selector", "[data-all]")
    for button, expected in ((everything, 12), (nothing, 0), (everything, 12)):
        button.click()
        assert browser.execute_script(groups) == expected
        matrices = browser.find_elements("css selector", ".matrices figure")
        assert sum(figure.is_displayed() for figure in matrices) == expected
    assert draw_all(browser) == 4 + 12


def test_headings_descend_one_level_at_a_time(opened: Callable[..., Any]) -> None:
    browser = opened()
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
