"""Debian's chromium, headless, for tests of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-quic", "--disable-dev-shm-usage")
NASTY = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'

needs_browser = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()),
    reason="needs Debian's chromium and chromium-driver: apt-get install chromium chromium-driver")

# The WCAG contrast of every visible text with what is painted behind it.
CONTRAST = """
const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92
  : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
  const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > .5) return c; }
  return [255, 255, 255]; };
const found = [];
const texts = "h1,h2,h3,p,span,td,th,dt,dd,summary,a,button,code,text";
for (const e of document.querySelectorAll(texts)) {
  if (!e.textContent.trim() || !e.getClientRects().length || e.closest(".skip")) continue;
  const style = getComputedStyle(e), svg = e instanceof SVGElement;
  const a = light(rgb(svg ? style.fill : style.color));
  const b = light(behind(svg ? e.closest(".plot") : e));
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]).slice(0, 3);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The path given keeps selenium from fetching a driver.
    driver = webdriver.Chrome(options=options,
                              service=webdriver.ChromeService(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Callable[..., Any]:
    """Opens the module's `page` in a window of some size, light or dark, with empty logs."""

    def open_page(width: int = 1280, height: int = 900, dark: bool = False) -> Any:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        browser.get("about:blank")
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(page.as_uri())
        return browser

    return open_page


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")]


def requests(browser: Any) -> list[str]:
    """What was asked of the network."""
    wanted = [entry["message"] for entry in browser.get_log("performance")
              if '"Network.requestWillBeSent"' in entry["message"]]
    return [message for message in wanted if '"url":"http' in message]


def sideways(browser: Any) -> int:
    """How far the page can be scrolled sideways."""
    found: int = browser.execute_script("const root = document.documentElement;"
                                        "return root.scrollWidth - root.clientWidth")
    return found


def check_colours(browser: Any, dark: bool) -> None:
    """The page is light or dark, and all of its text can be read."""
    channels = browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(channels) < 60) == dark
    worst = browser.execute_script(CONTRAST)
    assert worst[0][0] >= 4.5, worst


def tab_through(browser: Any, presses: int) -> set[str]:
    """What the tabulator key reaches; whatever has the focus is outlined."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reached = set()
    for _ in range(presses):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focus = browser.switch_to.active_element
        if focus.tag_name != "body":
            reached.add(focus.id)
            assert browser.execute_script(
                "const s = getComputedStyle(arguments[0]);"
                "return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2", focus)
    return reached
