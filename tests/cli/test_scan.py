"""`bifocus scan`: the folder of the design, every strategy, and what stops it."""

import json
import sqlite3
from pathlib import Path

import openslide
import pytest

from bifocus.calib.profile_file import read_profile
from tests.cli.commands import (
    GLASS_UM,
    Outcome,
    files_at_most,
    run_cli,
    write_instrument,
)

# Design, section 4.
FILES = {
    *("scan.sqlite", "raw", "slide.ome.tiff", "thumbnail.jpg", "quality.ome.tiff"),
    *("report.json", "report.html", "instrument.yaml", "profile.yaml"),
}
REPORT_KEYS = {
    *("tiles", "captured", "fused", "blank", "flagged", "elapsed_s"),
    *("capture_s_per_tile", "fuse_s_per_tile", "waits_s", "strategy", "model"),
    *("engine", "simulated", "faults", "truth"),
}
TRUTH_KEYS = {
    *("psnr_db", "sharper_psnr_db", "offset_error_um", "stitch_error_px"),
    "harm_rate",
}
ONE_TILE_UM = (260.0, 200.0, 60.0, 60.0)


def test_the_folder_holds_what_the_design_says(
    scanned: tuple[Path, Outcome], instrument: Path, profile: Path
) -> None:
    folder, _ = scanned
    assert {path.name for path in folder.iterdir()} == FILES
    assert len(list((folder / "raw").iterdir())) == 12
    assert (folder / "instrument.yaml").read_text() == instrument.read_text()
    assert read_profile(folder / "profile.yaml") == read_profile(profile)
    with sqlite3.connect(folder / "scan.sqlite") as journal:
        rows = journal.execute("SELECT status, mosaic_x_px FROM tile").fetchall()
    journal.close()
    assert [status for status, _ in rows] == ["captured"] * 6
    assert all(x_px is not None for _, x_px in rows)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/") >= 4


def test_the_report_holds_what_the_design_says(scanned: tuple[Path, Outcome]) -> None:
    folder, outcome = scanned
    report = outcome.document
    assert report == json.loads((folder / "report.json").read_text())
    assert set(report) >= REPORT_KEYS
    assert set(report["truth"]) >= TRUTH_KEYS
    assert (report["tiles"], report["captured"], report["fused"]) == (6, 6, 6)
    assert (report["blank"], report["flagged"], report["faults"]) == (0, 0, [])
    assert (report["strategy"], report["model"]) == ("two-shot", "base")
    assert report["simulated"] is True


def test_the_slide_is_better_than_its_shots(scanned: tuple[Path, Outcome]) -> None:
    """3 mrad of tilt and +-1.5 um of relief; limits of the design."""
    truth = scanned[1].document["truth"]
    assert truth["psnr_db"] > truth["sharper_psnr_db"]
    assert truth["offset_error_um"]["mean"] <= 0.3
    assert truth["stitch_error_px"]["max"] <= 1.0
    assert truth["harm_rate"] == 0


def test_openslide_opens_the_slide(scanned: tuple[Path, Outcome]) -> None:
    folder, outcome = scanned
    with openslide.OpenSlide(str(folder / "slide.ome.tiff")) as slide:
        assert slide.level_count >= 1
        assert list(slide.dimensions) == outcome.document["slide_px"]
        for axis in ("x", "y"):
            mpp = float(slide.properties[f"openslide.mpp-{axis}"])
            assert mpp == pytest.approx(0.25, rel=1e-3)


def test_people_get_the_figures_and_the_place(
    instrument: Path, profile: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scan"
    outcome = run_cli(
        *("scan", instrument, "-o", out, "--profile", profile),
        *("--region", *ONE_TILE_UM),
    )
    assert outcome.code == 0
    assert outcome.out.startswith("scan (SIMULATED instrument)\n")
    assert outcome.out.endswith(f"slide: {out / 'slide.ome.tiff'}\n")
    assert "1 of 1 tiles\n" in outcome.err


@pytest.mark.parametrize("strategy", ["stack", "focus-map"])
def test_the_classical_ways_run_too(
    instrument: Path, profile: Path, tmp_path: Path, strategy: str
) -> None:
    outcome = run_cli(
        *("scan", instrument, "-o", tmp_path / "scan", "--profile", profile),
        *("--strategy", strategy, "--region", *ONE_TILE_UM, "--json"),
    )
    report = outcome.document
    assert (report["strategy"], report["shots"]) == (strategy, 22)
    assert (report["fused"], report["model"]) == (0, "none")
    assert {path.name for path in (tmp_path / "scan").iterdir()} == FILES


def test_without_a_profile_it_calibrates_first(
    instrument: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scan"
    outcome = run_cli("scan", instrument, "-o", out, "--region", *ONE_TILE_UM)
    assert outcome.code == 0
    assert "calibrating first" in outcome.err
    assert read_profile(out / "profile.yaml").focus_um.value == pytest.approx(12, abs=2)


def test_a_folder_that_holds_a_scan_is_left_alone(
    instrument: Path, scanned: tuple[Path, Outcome]
) -> None:
    folder, _ = scanned
    before = (folder / "slide.ome.tiff").stat().st_mtime_ns
    outcome = run_cli("scan", instrument, "-o", folder)
    assert outcome.fails(1, str(folder), "holds a scan already", "another folder")
    assert (folder / "slide.ome.tiff").stat().st_mtime_ns == before


def test_a_blank_slide(instrument: Path, profile: Path, tmp_path: Path) -> None:
    out = tmp_path / "scan"
    outcome = run_cli(
        *("scan", instrument, "-o", out, "--profile", profile),
        *("--region", *GLASS_UM),
    )
    assert outcome.fails(1, str(out), "tiles are blank", "Check the slide")
    assert not (out / "slide.ome.tiff").exists()
    assert not (out / "report.json").exists()
    assert len(list((out / "raw").glob("*.png"))) > 0


def test_an_unknown_model(instrument: Path, tmp_path: Path) -> None:
    outcome = run_cli("scan", instrument, "-o", tmp_path / "scan", "--model", "gan")
    assert outcome.fails(1, "no model 'gan'", "available: physics")
    assert not list(tmp_path.iterdir())


def test_a_profile_of_another_instrument(profile: Path, tmp_path: Path) -> None:
    other = write_instrument(
        tmp_path / "other.yaml", optics={"objective": "40x/0.95"}, camera={"name": "B"}
    )
    outcome = run_cli("scan", other, "-o", tmp_path / "scan", "--profile", profile)
    assert outcome.fails(
        2, "another instrument", "objective: profile", "camera: profile", "calibrate"
    )
    assert not (tmp_path / "scan" / "scan.sqlite").exists()


@pytest.mark.parametrize("text", [None, "- a", "version: 1"])
def test_a_profile_that_is_none(
    instrument: Path, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "profile.yaml"
    if text is not None:
        path.write_text(text)
    out = tmp_path / "scan"
    outcome = run_cli("scan", instrument, "-o", out, "--profile", path)
    assert outcome.fails(2, str(path))
    assert not out.exists()


def test_a_disk_that_fills_up(instrument: Path, profile: Path, tmp_path: Path) -> None:
    """The slide has its tables from the start; journal and profile take less."""
    out = tmp_path / "scan"
    with files_at_most(400_000):
        outcome = run_cli("scan", instrument, "-o", out, "--profile", profile)
    assert outcome.fails(1, "slide.ome.tiff", "cannot write", "File too large")
    assert not list((out / "raw").iterdir())
    assert not (out / "slide.ome.tiff").exists()
