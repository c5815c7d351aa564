"""HTML of small things: escaped text, cells, tables, tags."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from gr_jax.report import tables


def escape(value: object) -> str:
    """Text that cannot become markup."""
    return html.escape(str(value), quote=True)


def script_json(value: object) -> str:
    """JSON that can stand inside a ``script`` element whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028")


def tag(text: str, kind: str = "") -> str:
    """A small coloured label."""
    return f'<span class="tag {kind}">{escape(text)}</span>'


def traced(text: str, *, source: str, pointer: str, value: float | None = None) -> str:
    """A number that opens its record when clicked."""
    exact = "" if value is None else f' data-value="{value!r}"'
    title = escape(f"{source} {pointer}".strip())
    return (
        f'<span data-source="{escape(source)}" data-pointer="{escape(pointer)}"'
        f'{exact} title="{title}">{escape(text)}</span>'
    )


def _cell(cell: tables.Cell) -> str:
    if cell.value is None:
        source = f' data-source="{escape(cell.source)}"' if cell.source else ""
        return f'<td class="words"{source}>{escape(cell.text)}</td>'
    inner = escape(cell.text)
    title = f"{cell.source} {cell.pointer} = {cell.value!r}"
    if cell.measure is not None:
        inner += f"<small>{escape(cell.interval)}</small>"
        title += f", 95% {cell.interval}, n = {cell.measure.n}"
    return (
        f'<td class="num" data-value="{cell.value!r}" '
        f'data-source="{escape(cell.source)}" data-pointer="{escape(cell.pointer)}" '
        f'title="{escape(title)}">{inner}</td>'
    )


def table(shown: tables.Table, *, is_sorted: bool = False) -> str:
    """A table whose numbers point at their records."""
    head = "".join(f"<th>{escape(column)}</th>" for column in shown.columns)
    rows = "".join(
        f'<tr class="{kind}">{"".join(map(_cell, row))}</tr>'
        for row, kind in zip(shown.rows, shown.row_kinds, strict=True)
    )
    kind = ' class="sorted"' if is_sorted else ""
    return (
        f'<div class="scroll"><table id="table-{shown.key}"{kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A two-column table of names and values; values are HTML already."""
    lines = "".join(f"<tr><td>{escape(n)}</td><td>{v}</td></tr>" for n, v in rows)
    return f'<table class="plain"><tbody>{lines}</tbody></table>'
