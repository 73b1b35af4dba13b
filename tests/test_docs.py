"""The code on the pages runs as printed."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from crl import registry

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md",
         *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table in (registry.agents, registry.methods, registry.memories):
        monkeypatch.setattr(table, "_targets", dict(table._targets))
    module = types.ModuleType("crl_docs_page")  # a real module, so that registered names resolve
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = blocks(page)
    assert source
    for number, block in enumerate(source):
        exec(compile(block, f"{page}, block {number}", "exec"), module.__dict__)


def anchors(page: Path) -> set[str]:
    """What its headings are linked by, as code hosts make it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    here = ROOT / page
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", here.read_text()):
        there = here.parent / target if target else here
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"
