"""The command line as a whole: help, version, exit codes, Ctrl-C, processes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest

from bifocus import __version__
from bifocus.edge.capture import Microscope
from bifocus.records import Frame
from tests.cli.commands import run_cli, write_instrument

COMMANDS = (
    *("demo", "init", "plan", "calibrate", "scan", "resume", "fuse", "bench"),
    "reprocess",
    *("train", "evaluate", "compare", "doctor", "hal-check", "export"),
)
REPORTING = (
    *(
        "demo",
        "plan",
        "calibrate",
        "scan",
        "fuse",
        "bench",
        "doctor",
        "hal-check",
        "export",
    ),
    *("evaluate", "compare", "resume", "reprocess"),
)


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bifocus", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    outcome = run_cli(command, "--help")
    assert outcome.code == 0
    assert f"Example: bifocus {command} " in outcome.out
    assert ("--json" in outcome.out) == (command in REPORTING)


def test_the_help_lists_every_command() -> None:
    outcome = run_cli("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert re.search(rf"{command} +[A-Z]", outcome.out)


def test_no_command_shows_the_help_as_bad_usage() -> None:
    outcome = run_cli()
    assert outcome.code == 2
    assert "COMMAND [ARGS]" in outcome.out
    assert "calibrate" in outcome.out


def test_version_needs_no_command() -> None:
    outcome = run_cli("--version")
    assert (outcome.code, outcome.out) == (0, f"bifocus {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nonsense",), "nonsense"),
        (("scan",), "INSTRUMENT"),
        (("scan", "x.yaml"), "--out"),
        (("scan", "x.yaml", "-o", "y", "--strategy", "guess"), "'two-shot'"),
        (("plan", "x.yaml", "--region", "1", "2", "3"), "--region"),
        (("plan", "x.yaml", "--region", "1", "2", "3", "wide"), "--region"),
        (("fuse", "--na", "wide", "-o", "x"), "--na"),
        (("demo", "--tiles", "0"), "--tiles"),
    ],
)
def test_bad_usage(
    arguments: tuple[str, ...],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(*arguments).fails(2, word)
    assert not list(tmp_path.iterdir())


def test_a_process_of_its_own_prints_one_document_and_no_traceback(
    instrument: Path,
) -> None:
    done = run_process("plan", instrument, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["tiles"] == 6
    failed = run_process("plan", "/nowhere/scanner.yaml")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "error: /nowhere/scanner.yaml: cannot read the instrument file: "
        "No such file or directory\n"
    )


def test_errors_in_pipes_are_not_folded(tmp_path: Path) -> None:
    """A path longer than a line can be copied from the message."""
    missing = tmp_path / ("long-" * 30) / "scanner.yaml"
    assert run_cli("plan", missing).fails(2, str(missing))


def test_an_interrupt_stops_the_stage_and_keeps_the_shots(
    instrument: Path, profile: Path, tmp_path: Path
) -> None:
    """SIGINT to a real process, between its second and its last tile."""
    folder = tmp_path / "scan"
    command = [sys.executable, "-m", "bifocus", "scan", str(instrument)]
    command += ["-o", str(folder), "--profile", str(profile), "--strategy", "stack"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("2 of 6"):
                os.kill(process.pid, signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 1
    assert "stopped; what was written so far is kept" in rest
    assert "Traceback" not in rest
    names = {path.name for path in folder.iterdir()}
    assert {"scan.sqlite", "profile.yaml", "instrument.yaml", "raw"} <= names
    assert not names & {"report.json", "report.html"}
    assert len(list((folder / "raw").glob("*.png"))) >= 2
    # What was captured is in a slide that opens.
    with openslide.OpenSlide(folder / "slide.ome.tiff") as slide:
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("L"))
    assert float(seen.std()) > 1


def test_an_interrupt_in_the_camera_stops_the_stage(
    instrument: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    wait_for_frame = Microscope._wait_for_frame

    def wait_three_times(self: Microscope, get: Callable[[], Frame]) -> Frame:
        if len(seen) == 3:
            monkeypatch.setattr(self.stage, "stop", lambda: seen.append("stop"))
            raise KeyboardInterrupt
        seen.append("shot")
        return wait_for_frame(self, get)

    monkeypatch.setattr(Microscope, "_wait_for_frame", wait_three_times)
    folder = tmp_path / "scan"
    outcome = run_cli("scan", instrument, "-o", folder, "--profile", profile)
    assert outcome.fails(1, "stopped; what was written so far is kept")
    assert seen[:4] == ["shot", "shot", "shot", "stop"]
    kept = sorted(path.name for path in (folder / "raw").iterdir())
    assert kept == ["r000_c000_minus.png", "r000_c000_plus.png"]


def test_a_broken_instrument_names_all_that_is_wrong(tmp_path: Path) -> None:
    path = write_instrument(
        tmp_path / "odd.yaml",
        camera={"exposre_s": 0.01},
        optics={"na": float("nan"), "pixel_um": -0.25},
    )
    assert run_cli("plan", path).fails(
        2,
        f"{path}: unknown key 'camera.exposre_s'; did you mean 'exposure_s'?",
        "key 'optics.na'",
        "key 'optics.pixel_um'",
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [("- a\n- b\n", "found list"), ("a: [\n", "not a YAML file"), ("", "NoneType")],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    assert run_cli("plan", path).fails(2, str(path), word)
