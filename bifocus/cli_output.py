"""What the commands print: tables for people, JSON for programs, progress for both."""

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bifocus.edge.capture_loop import Progress as OnProgress
from bifocus.edge.report_records import StrategyRow

out_console = Console()
err_console = Console(stderr=True)

# Where there is no terminal, a plain line appears after each such share of the work.
_PLAIN_SHARE = 0.25


class _SayOnce(logging.Filter):
    """Let each text through once: the demo opens its instrument many times."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_new = text not in self._said
        self._said.add(text)
        return is_new


def set_up_logging(*, verbose: bool) -> None:
    """Send the log to standard error: all of it, or only what every user should see."""
    handler: logging.Handler
    if err_console.is_terminal:
        handler = RichHandler(console=err_console, show_path=False, show_time=verbose)
    else:  # files and pipes get whole lines, not ones folded at 80 columns
        handler = logging.StreamHandler(sys.stderr)
        stamp = "%(asctime)s " if verbose else ""
        handler.setFormatter(logging.Formatter(f"{stamp}%(levelname)s %(message)s"))
    if not verbose:
        handler.addFilter(_SayOnce())
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[handler],
        force=True,
    )
    # Which tissue stands in for glass, and calibration's findings, always show.
    for name in ("bifocus.hal.tissue_source", "bifocus.calib", "bifocus.jobs"):
        logging.getLogger(name).setLevel(logging.INFO)


def print_error(text: str) -> None:
    """Print an error; folded on a terminal only, so that paths in files stay whole."""
    err_console.print(
        f"error: {text}",
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=not err_console.is_terminal,
    )


def print_line(line: str) -> None:
    """Print a line for the person at the terminal; never folded, as addresses are."""
    err_console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on standard output; numbers that are none become null."""
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print names and values as a two-column table."""
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, format_value(value))
    _print_table(title, table)


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print dictionaries of the same keys as a table; empty columns are left out."""
    first = rows[0] if rows else {}
    names = [name for name in first if any(row[name] is not None for row in rows)]
    table = Table(*names)
    for row in rows:
        table.add_row(*(format_value(row[name]) for name in names))
    _print_table(title, table)


def print_scan(report: Mapping[str, Any]) -> None:
    """Print the main figures of a `report.json`."""
    names = (
        *("tiles", "fused", "blank", "flagged", "elapsed_s", "capture_s_per_tile"),
        *("fuse_s_per_tile", "model", "engine"),
    )
    facts = {name: report[name] for name in names}
    truth = report.get("truth")
    if truth:
        facts["slide_psnr_db"] = truth["psnr_db"]
        if report["strategy"] == "two-shot":
            facts["sharper_shot_psnr_db"] = truth["sharper_psnr_db"]
        if truth["offset_error_um"]:
            facts["offset_error_um"] = truth["offset_error_um"]["mean"]
        facts["stitch_error_max_px"] = truth["stitch_error_px"]["max"]
    title = "scan (SIMULATED instrument)" if report["simulated"] else "scan"
    print_facts(title, facts)


def print_comparison(rows: Sequence[StrategyRow]) -> None:
    """Print the strategies side by side; speed as a ratio to the slowest."""
    slowest_s = max((row.seconds_per_tile for row in rows), default=0.0)
    print_rows(
        "the same tiles, scanned in three ways",
        [
            {
                "strategy": row.strategy,
                "shots": row.shots,
                "s/tile": row.seconds_per_tile,
                "faster": f"{slowest_s / max(row.seconds_per_tile, 1e-9):.1f}x",
                "slide dB": row.psnr_db,
                "sharper shot dB": row.sharper_psnr_db,
                "harm": row.harm_rate,
            }
            for row in rows
        ],
    )


def format_value(value: object) -> str:
    """Return a value as a person reads it.

    Examples
    --------
    >>> format_value(3.14159), format_value(None), format_value([1.0, 2.5])
    ('3.142', '-', '1, 2.5')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value))
    return str(value)


@contextmanager
def show_progress(what: str) -> Iterator[OnProgress]:
    """Yield a callback (done, total): a bar on a terminal, plain lines otherwise."""
    if not err_console.is_terminal:
        yield _plain_progress(what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err_console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_table(title: str, table: Table) -> None:
    """Print the title on a line of its own: rich would fold it to the table's width."""
    out_console.print(title, style="italic", highlight=False, soft_wrap=True)
    out_console.print(table)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_progress(what: str) -> OnProgress:
    def report(done: int, total: int) -> None:
        steps = max(1, round(total * _PLAIN_SHARE))
        if done == total or done % steps == 0:
            err_console.print(f"{done} of {total} {what}", highlight=False)

    return report
