"""Debian's chromium, headless, for tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
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


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")]
