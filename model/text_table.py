"""A table of text cells, written as Markdown, aligned text or HTML."""

import html
from dataclasses import dataclass

NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, a header, rows of text of its length, and a note."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """Return a pipe table under a heading."""
        lines = [f"### {self.title}", ""]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self._all()]
        lines.append("| " + " | ".join(cells[0]) + " |")
        lines.append("| :-- |" + " --: |" * (len(self.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in cells[1:]]
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def to_text(self) -> str:
        """Return aligned columns for a terminal."""
        widths = [max(len(row[i]) for row in self._all()) for i in range(self._width)]
        lines = [self.title]
        for row in self._all():
            first = row[0].ljust(widths[0])
            rest = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)][
                1:
            ]
            lines.append("  ".join([first, *rest]).rstrip())
        return "\n".join([*lines, *([self.note] if self.note else [])]) + "\n"

    def to_html(self) -> str:
        """Return a heading and a table; all text is escaped."""
        head, *body = [
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for row, tag in zip(
                self._all(), ["th"] + ["td"] * len(self.rows), strict=True
            )
        ]
        rows = "\n".join(f"<tr>{row}</tr>" for row in body)
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        title = html.escape(self.title)
        return f"<h2>{title}</h2>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>\n{note}\n"

    def _all(self) -> list[tuple[str, ...]]:
        return [self.header, *self.rows]

    @property
    def _width(self) -> int:
        return len(self.header)


def number(value: object, digits: int = 2) -> str:
    """Return a number with fixed digits, or a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING
    return f"{value:.{digits}f}"
