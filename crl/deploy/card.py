"""The model card of a bundle: its manifest for people to read."""

from __future__ import annotations

from collections.abc import Iterable

from crl.deploy.manifest import Manifest


def model_card(manifest: Manifest) -> str:
    """Markdown, made of the manifest alone."""
    source, guard, parity = (manifest[name] for name in ("source", "guard", "parity"))
    state = ", ".join(f"`{one['input']}` {one['shape']}" for one in manifest["state"])
    lines = [
        f"# Policy of {manifest['task']}", "",
        *_table(("", ""), (*((name.replace("_", " "), value) for name, value in source.items()),
                           ("exported by", ", ".join(f"{name} {version}" for name, version in
                                                     manifest["versions"].items())))), "",
        f"It decides {manifest['rate_hz']:g} times a second"
        + (f" and remembers {state}, all 0 when an episode begins." if state else
           " and remembers nothing."), "",
        "## Observation", "",
        *_table(("term", "unit", "low", "high"), (
            tuple(term[name] for name in ("name", "unit", "low", "high"))
            for term in manifest["observation"]["terms"])), "",
        f"## Action, {manifest['action']['kind']}", "",
        *_table(("term", "unit", "low", "high", "safe"), (
            tuple(term[name] for name in ("name", "unit", "low", "high", "safe"))
            for term in manifest["action"]["terms"])), "",
        "## Before it drives anything", "",
        f"In {parity['steps']} steps of {parity['episodes']} episodes ONNX Runtime came within "
        f"{parity['largest_error']:.1g} of PyTorch, in halves of the actions' ranges; the runtime "
        "does these steps again whenever it opens the bundle.", "",
        f"Without a usable action the guard holds the last one for {guard['hold_steps']} steps, "
        f"moves to the safe one in {guard['decay_steps']}, and stops. It has been tried in "
        "simulation only: try `crl drive` first, and keep a hand at the emergency stop.", ""]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """Lines of a table."""
    return [_row(head), _row(("---",) * len(head)), *map(_row, rows)]


def _row(cells: Iterable[object]) -> str:
    texts = (f"{c:g}" if isinstance(c, float) else "–" if c is None else str(c) for c in cells)
    return f"| {' | '.join(texts)} |"
