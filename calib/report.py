"""The calibration report: one self-contained `report.html` that prints.

Every value stands with its expanded uncertainty, how it was got, and what it proves
about the scan's needs; every step with its plots, pictures, facts and warnings.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from bifocus.calib import report_facts
from bifocus.calib.report_facts import FactTable, as_lines, lay_out_facts, lay_out_table
from bifocus.calib.report_labels import (
    in_symbols,
    name_step,
    name_unit,
    name_value,
    unit_of_key,
)
from bifocus.calib.report_numbers import (
    RoundedPair,
    format_significant,
    round_with_uncertainty,
)
from bifocus.calib.report_plots import describe_plot, draw_plot
from bifocus.calib.requirements import (
    COVERAGE_FACTOR,
    Finding,
    Requirement,
    judge_all,
)
from bifocus.calib.step_result import Plot, StepResult
from bifocus.config import Instrument
from bifocus.records import InstrumentProfile, Measured, UInt8Image
from bifocus.report_page import data_uri, make_environment
from bifocus.whole_file import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRow:
    """One line of the table of values."""

    key: str
    label: str
    step: str
    rounded: RoundedPair
    unit: str
    method: str
    findings: tuple[Finding, ...]


def write_calibration_report(
    out: Path,
    profile: InstrumentProfile,
    steps: Sequence[StepResult],
    config: Instrument,
) -> Path:
    """Write `report.html` into a folder, whole or not at all.

    Parameters
    ----------
    out
        An existing folder.
    profile
        The profile that these steps made; it names the steps that were left out.
    steps
        In the order in which they were done.
    config
        The instrument file, from which the scan's needs follow.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    SlideFileError
        If the page cannot be written; an older page is left as it was.
    """
    path = out / "report.html"
    write_whole(path, render_calibration_report(profile, steps, config))
    return path


def render_calibration_report(
    profile: InstrumentProfile, steps: Sequence[StepResult], config: Instrument
) -> str:
    """Return the page as text; see `write_calibration_report`."""
    values = {key: it for step in steps for key, it in step.values.items()}
    facts = {**profile.facts, **{step.name: step.facts for step in steps}}
    findings = judge_all(values, facts, config)
    environment = make_environment("bifocus.calib")
    environment.filters.update(
        limit=_limit_text, symbols=in_symbols, moment=_moment_text
    )
    return environment.get_template("calibration.html.j2").render(
        instrument=config.name,
        profile=profile,
        counts=Counter(finding.verdict for finding in findings),
        findings=findings,
        named=name_value,
        rows=[
            _value_row(step.name, key, it, findings)
            for step in steps
            for key, it in step.values.items()
        ],
        steps=[_lay_out_step(step, profile) for step in steps],
        skipped={name_step(name): why for name, why in profile.skipped.items()},
        warnings=profile.warnings,
    )


def _value_row(
    step: str, key: str, measured: Measured, findings: Sequence[Finding]
) -> ValueRow:
    expanded = COVERAGE_FACTOR * measured.standard_uncertainty
    return ValueRow(
        key=key,
        label=name_value(key),
        step=name_step(step),
        rounded=round_with_uncertainty(measured.value, expanded),
        unit=name_unit(measured.unit),
        method=measured.method,
        findings=tuple(it for it in findings if it.requirement.key == key),
    )


def _limit_text(requirement: Requirement) -> str:
    """Return a limit as a formula with its unit; see `Requirement`."""
    low, high = (
        None if limit is None else format_significant(limit, 3)
        for limit in (requirement.low, requirement.high)
    )
    if low is None and high is None:
        return "trained range"
    if low is not None and high is not None:
        text = f"{low} … {high}"
    else:
        text = f"≤ {high}" if low is None else f"≥ {low}"
    symbol = "U " if requirement.of == "uncertainty" else ""
    return f"{symbol}{text} {unit_of_key(requirement.key)}".strip()


def _moment_text(moment: str) -> str:
    """Return a moment of ISO 8601 as people write it."""
    day, _, rest = moment.partition("T")
    clock = rest.partition("+")[0].partition(".")[0]
    return f"{day} {clock} UTC" if clock else moment


def _lay_out_step(step: StepResult, profile: InstrumentProfile) -> dict[str, Any]:
    facts = dict(step.facts)
    formulas = as_lines(facts.pop(report_facts.FORMULAS, None))
    caveat = as_lines(facts.pop(report_facts.CAVEAT, None))
    budgets = [
        table
        for key in report_facts.BUDGETS
        for table in _budget_tables(facts.pop(key, None), unit_of_key(key))
    ]
    return {
        "name": step.name,
        "title": name_step(step.name),
        "when": profile.steps.get(step.name, ""),
        "warnings": step.warnings,
        "plots": [
            (
                plot.title,
                describe_plot(plot),
                data_uri("image/svg+xml", draw_plot(plot).encode()),
            )
            for plot in map(_in_symbols, step.plots)
        ],
        "pictures": [
            (caption, data_uri("image/png", _to_png(pixels)))
            for caption, pixels in step.pictures.items()
        ],
        "formulas": formulas,
        "caveat": caveat,
        "budgets": budgets,
        "facts": lay_out_facts(facts),
        "raw_sha256": step.raw_sha256,
    }


def _budget_tables(budget: object, unit: str) -> list[FactTable]:
    """Return the tables of a budget.

    It is a list of parts, or maps either parts to their u, or quantities to such.
    """
    if isinstance(budget, list | tuple):
        return [lay_out_table("", budget)]
    if not isinstance(budget, Mapping):
        return []
    plain = {key: u for key, u in budget.items() if isinstance(u, int | float)}
    tables = []
    if plain:
        column = f"u, {unit}" if unit else "u"
        records = [
            {"part": name.replace("_", " "), column: format_significant(u, 2)}
            for name, u in plain.items()
        ]
        tables.append(lay_out_table("", records))
    for key, parts in budget.items():
        for table in _budget_tables(parts, unit_of_key(str(key))):
            tables.append(replace(table, title=name_value(str(key))))
    return tables


def _in_symbols(plot: Plot) -> Plot:
    return replace(
        plot,
        title=in_symbols(plot.title),
        x_label=in_symbols(plot.x_label),
        y_label=in_symbols(plot.y_label),
        series=tuple(
            replace(series, name=in_symbols(series.name)) for series in plot.series
        ),
    )


def _to_png(pixels: UInt8Image) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return content.getvalue()
