"""Whole calibrations of the presets in `examples/`, beside the truth.

Each preset is calibrated by the command itself, `bifocus calibrate PRESET --json`, as
it is or with its stage behind virtual firmware: the board's real protocol through a
pseudo-terminal, in real time. Run it with

    python -m bench.calibrate_presets [NAME ...] [--pty] [-o FOLDER]

Printed for each preset: every value with U (k = 2), its truth, and by how many u it is
off; then each requirement of the report that is not proven. The exit
code is 1 where one is not, or where more than one value in ten lies outside its U.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bifocus.calib.profile_file import read_profile
from bifocus.calib.requirements import judge_all
from bifocus.config import load_instrument

EXAMPLES = Path(__file__).parents[1] / "examples"
BOARDS = {"asi-ms2000": "asi", "openflexure": "sangaboard", "printer-stage": "marlin"}
# What only the in-process stage has; the firmware gets the mechanics.
_VIRTUAL_ONLY = ("kind", "command_s", "mechanics")
_MOST_OUTSIDE = 0.1  # of a dozen values at k = 2, the odd one


def document_on_board(name: str, link: str) -> dict[str, Any]:
    """Return a preset's instrument file with its board's protocol before the stage.

    Parameters
    ----------
    name
        Of the preset.
    link
        `direct`, on the preset's virtual clock, or `pty`, in real time.
    """
    document: dict[str, Any] = read_preset(name)
    stage = document["stage"]
    own = {key: value for key, value in stage.items() if key not in _VIRTUAL_ONLY}
    firmware = {"link": link, "mechanics": stage["mechanics"]}
    document["stage"] = {
        **own,
        "kind": BOARDS[name],
        "port": "virtual",
        "simulated": True,
        "virtual_firmware": firmware,
    }
    document["clock"] = "real" if link == "pty" else "virtual"
    return document


def read_preset(name: str) -> dict[str, Any]:
    """Return a preset's instrument file."""
    text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def calibrate(name: str, folder: Path, *, on_pty: bool) -> dict[str, Any]:
    """Calibrate a preset into a folder; return what the command printed."""
    document = document_on_board(name, "pty") if on_pty else read_preset(name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "instrument.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "bifocus", "calibrate", str(path), "--fresh"]
    done = subprocess.run(
        [*command, "-o", str(folder), "--json"], stdout=subprocess.PIPE, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def describe(told: dict[str, Any]) -> tuple[list[str], float]:
    """Return a line for each value, and the share of those with truth outside U."""
    truth, lines, outside = told["truth"], [], []
    for key, it in told["values"].items():
        line = f"  {key:28} {it['value']:12.5g}  U {2 * it['u']:<9.3g} {it['unit']:8}"
        if key in truth:
            errors_u = (it["value"] - truth[key]) / it["u"]
            outside.append(abs(errors_u) > 2)
            line += f" truth {truth[key]:<10.5g} {errors_u:+.1f} u"
        lines.append(line)
    return lines, sum(outside) / len(outside)


def unproven(folder: Path) -> list[str]:
    """Return the requirements that a finished calibration does not prove."""
    profile = read_profile(folder / "profile.yaml")
    config = load_instrument(folder / "instrument.yaml")
    return [
        f"  {found.verdict}: {found.requirement.key}: {found.requirement.reason}"
        for found in judge_all(profile.values, profile.facts, config)
        if found.verdict != "pass"
    ]


def main(arguments: list[str] | None = None) -> int:
    """Calibrate the named presets, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BOARDS))
    parser.add_argument("--pty", action="store_true", help="board on a terminal")
    parser.add_argument("-o", "--out", type=Path, help="keeps reports and profiles")
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp(prefix="calibrated-"))
    failed = False
    for name in options.names or BOARDS:
        told = calibrate(name, out / name, on_pty=options.pty)
        lines, outside = describe(told)
        notes = [f"  left out: {step}: {why}" for step, why in told["skipped"].items()]
        notes += [f"  warning: {text}" for text in told["warnings"]]
        needs = unproven(out / name)
        print(f"{name}, {outside:.0%} of the values with truth outside U (k = 2)")
        print("\n".join([*lines, *notes, *needs]), flush=True)
        failed |= bool(needs) or outside > _MOST_OUTSIDE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
