"""The parts of the page about the runs themselves: configuration, versions, hardware, status."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from crl.report.load import Loaded, split_common
from crl.report.tables import NONE, plural

MEANING = {"finished": "finished", "running": "running, or killed", "interrupted": "interrupted",
           "failed": "failed"}
SHOWN_COMMIT = 10


def configuration(loaded: Sequence[Loaded]) -> str:
    """What all runs share, once; in what they differ is in the table of runs."""
    common, different = split_common([run.settings for run in loaded])
    facts, other_facts = split_common([run.facts for run in loaded])
    protocols = {str(run.run.info["protocol"]) for run in loaded}
    if len(protocols) == 1:
        facts = {"protocol": protocols.pop(), **facts}
    differing = [*different, *other_facts]
    sentence = (f"In {plural(len(differing), 'setting')} the runs differ: "
                f"{', '.join(differing)}. See the table of runs." if differing
                else "The runs differ in nothing but their seeds." if len(loaded) > 1 else "")
    scope = "of all runs" if len(loaded) > 1 else "of the run"
    return (f'<p class="muted">{escape(sentence)}</p>'
            + _pairs(f"Settings {scope}", common)
            + _pairs(f"Protocol, versions, commit and hardware {scope}", facts))


def runs_table(loaded: Sequence[Loaded]) -> str:
    """A row a run, with every setting and fact in which runs differ."""
    _, settings = split_common([run.settings for run in loaded])
    _, facts = split_common([run.facts for run in loaded])
    protocols = len({run.run.info["protocol"] for run in loaded}) > 1
    head = ["Folder", "Agent and methods", "Seed", "Status", "Env steps", "CPU s", "Wall s",
            *(["Protocol"] if protocols else []), *settings, *facts]
    numbers = {"Seed", "Env steps", "CPU s", "Wall s"}
    rows = []
    for run in loaded:
        status = MEANING.get(run.run.status, run.run.status)
        if run.scores is None:
            status += ", no evaluation yet"
        cells = [str(run.run.folder), run.run.label, str(run.seed), status,
                 f"{run.env_steps:,} of {run.run.boundaries[-1]:,}", f"{run.cpu_s:,.0f}",
                 f"{run.wall_s:,.0f}",
                 *([str(run.run.info["protocol"])] if protocols else []),
                 *(run.settings.get(key, NONE) for key in settings),
                 *(_fact(key, run.facts.get(key, NONE)) for key in facts)]
        texts = [f"<strong>{escape(text)}</strong>" if name == "Status" and not run.finished
                 else escape(text) for name, text in zip(head, cells, strict=True)]
        rows.append("<tr>" + "".join(
            f'<td class="{"number" if name in numbers else "nowrap"}">{text}</td>'
            for name, text in zip(head, texts, strict=True)) + "</tr>")
    columns = "".join(f'<th scope="col"{" class=number" if name in numbers else ""}>'
                      f"{escape(name)}</th>" for name in head)
    return ('<div class="scroll tall" tabindex="0" role="region" aria-label="Runs">'
            f"<table><thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>")


def _pairs(title: str, values: dict[str, str]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(key)}</th><td>{escape(_fact(key, value))}</td>'
                   "</tr>" for key, value in values.items())
    return (f"<details><summary>{escape(title)}</summary>"
            '<div class="scroll configuration" tabindex="0" role="region" '
            f'aria-label="{escape(title)}"><table><tbody>{rows}</tbody></table></div></details>')


def _fact(key: str, value: str) -> str:
    """A commit is told apart by its first digits, and by whether the tree had changes."""
    if key != "commit" or value == "null":
        return "unknown" if key == "commit" else value
    commit, _, dirty = value.partition("+")
    return commit[:SHOWN_COMMIT] + (" with uncommitted changes" if dirty else "")
