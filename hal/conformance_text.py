"""The conformance report as text, to attach to a bug report; no secrets in it."""

import platform
from datetime import datetime, timezone
from typing import Any

import yaml

from bifocus import __version__
from bifocus.config import Instrument
from bifocus.hal.conformance import ConformanceReport
from bifocus.hal.conformance_bench import Bench
from bifocus.hal.secrets import without_secrets


def read_facts(bench: Bench, config: Instrument) -> dict[str, Any]:
    """Return what stands on the bench: versions, identities, room, configuration."""
    stage, camera = bench.stage.capabilities, bench.devices.camera
    centre, room = bench.centre, bench.room
    facts: dict[str, Any] = {
        "when_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bifocus": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "stage": f"{stage.kind}: {stage.identity}",
        "camera": None,
        "simulated": config.is_simulated,
        "centre_um": [centre.x_um, centre.y_um, centre.z_um],
        "room_um": [room.x_um, room.y_um, room.z_um],
        "instrument": without_secrets(config.model_dump(mode="json")),
    }
    if camera is not None:
        known = camera.capabilities
        facts["camera"] = f"{known.kind}: {known.identity}"
    return facts


def as_document(report: ConformanceReport) -> dict[str, Any]:
    """Return the report as `hal-check --json` prints it."""
    return {
        "passed": not report.failed,
        "failed": list(report.failed),
        "skipped": list(report.skipped),
        "facts": dict(report.facts),
        "checks": [
            {
                "name": result.name,
                "asks": result.asks,
                "outcome": result.finding.outcome,
                "measured": result.finding.measured,
                "expected": result.finding.expected,
                "next_step": result.finding.next_step,
                "figures": dict(result.finding.figures),
                "seconds": round(result.seconds, 3),
            }
            for result in report.results
        ],
    }


def as_text(report: ConformanceReport) -> str:
    """Return the report as plain text: facts, then one paragraph for each check."""
    facts = {key: value for key, value in report.facts.items() if key != "instrument"}
    lines = ["bifocus hal-check", ""]
    lines += [f"{key}: {value}" for key, value in facts.items()]
    lines += ["", f"failed: {', '.join(report.failed) or 'none'}", ""]
    for result in report.results:
        finding = result.finding
        lines.append(f"{finding.outcome.upper():4}  {result.name}: {result.asks}")
        lines.append(f"      measured: {finding.measured}")
        if finding.expected:
            lines.append(f"      expected: {finding.expected}")
        if finding.next_step:
            lines.append(f"      next step: {finding.next_step}")
        figures = ", ".join(f"{k} {v:.6g}" for k, v in finding.figures.items())
        if figures:
            lines.append(f"      figures: {figures}")
    lines += ["", "instrument file, passwords hidden:", ""]
    dumped = yaml.safe_dump(report.facts.get("instrument"), sort_keys=False)
    return "\n".join(lines) + "\n" + dumped
