"""Lays out the facts of a step, which may be any JSON values, as rows and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bifocus.calib.report_labels import in_symbols, name_fact
from bifocus.calib.report_numbers import format_significant

# A longer list of numbers is told by its length and its ends.
_LONGEST_LIST = 12
# A longer table is cut; the whole of it is in the step's file.
_LONGEST_TABLE = 60
# Facts that the page shows apart: what must be read beside the values.
FORMULAS = "formulas"
CAVEAT = "caveat"
BUDGETS = ("uncertainty_budget", "budget", "budget_um")


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTable:
    """A list of records with common keys, as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FactLayout:
    """Rows of (dotted key, text), then tables."""

    rows: tuple[tuple[str, str], ...]
    tables: tuple[FactTable, ...]


def lay_out_facts(facts: Mapping[str, Any]) -> FactLayout:
    """Return every fact as a row or a table; nothing is left out unsaid.

    Examples
    --------
    >>> layout = lay_out_facts({"matrix": [[1.0, 0.0], [0.0, 1.0]],
    ...                         "fit": {"rms_um": 0.01234}})
    >>> layout.rows
    (('matrix', '[1, 0], [0, 1]'), ('fit.rms, µm', '0.01234'))
    """
    rows: list[tuple[str, str]] = []
    tables: list[FactTable] = []
    _collect("", facts, rows, tables)
    return FactLayout(rows=tuple(rows), tables=tuple(tables))


def lay_out_table(title: str, records: Sequence[Mapping[str, Any]]) -> FactTable:
    """Return records as a table; its columns are the keys in order of appearance."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    rows = tuple(
        tuple(_text(record.get(column)) for column in columns)
        for record in records[:_LONGEST_TABLE]
    )
    return FactTable(
        title=title,
        columns=tuple(name_fact(column) for column in columns),
        rows=rows,
        left_out=max(0, len(records) - _LONGEST_TABLE),
    )


def as_lines(fact: object) -> tuple[str, ...]:
    """Return a text or a list of texts as lines; nothing for None."""
    if fact is None:
        return ()
    if isinstance(fact, Mapping):
        return tuple(f"{name_fact(str(key))}: {_text(it)}" for key, it in fact.items())
    if isinstance(fact, list | tuple):
        return tuple(_text(item) for item in fact)
    return (_text(fact),)


def _collect(
    name: str,
    fact: object,
    rows: list[tuple[str, str]],
    tables: list[FactTable],
) -> None:
    if isinstance(fact, Mapping) and not _is_column_table(fact):
        for key, inner in fact.items():
            joined = f"{name}.{name_fact(str(key))}" if name else name_fact(str(key))
            _collect(joined, inner, rows, tables)
    elif isinstance(fact, Mapping):
        names, columns = list(fact), list(fact.values())
        records = [
            dict(zip(names, line, strict=True)) for line in zip(*columns, strict=True)
        ]
        tables.append(lay_out_table(name, records))
    elif _is_record_table(fact):
        tables.append(lay_out_table(name, fact))  # type: ignore[arg-type]
    else:
        rows.append((name, _text(fact)))


def _is_record_table(fact: object) -> bool:
    return (
        isinstance(fact, list | tuple)
        and len(fact) > 0
        and all(isinstance(item, Mapping) for item in fact)
    )


def _is_column_table(fact: Mapping[str, Any]) -> bool:
    """Whether a mapping holds equally long lists of numbers, such as a curve."""
    columns = list(fact.values())
    if len(columns) < 2 or not all(isinstance(it, list | tuple) for it in columns):
        return False
    sizes = {len(column) for column in columns}
    plain = all(isinstance(item, int | float) for it in columns for item in it)
    return len(sizes) == 1 and sizes.pop() > 3 and plain


def _text(fact: object) -> str:
    if fact is None:
        return "–"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, int | float):
        return format_significant(fact)
    if isinstance(fact, Mapping):
        return ", ".join(f"{name_fact(str(k))} {_text(it)}" for k, it in fact.items())
    if isinstance(fact, list | tuple):
        if not fact:
            return "none"
        if len(fact) > _LONGEST_LIST:
            return f"{len(fact)} items, {_text(fact[0])} … {_text(fact[-1])}"
        nested = any(isinstance(item, list | tuple) for item in fact)
        return ", ".join(f"[{_text(item)}]" if nested else _text(item) for item in fact)
    return in_symbols(str(fact))
