"""`bifocus demo`, on a small instrument: all it makes, twice into one folder."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from bifocus import demo
from tests.cli.commands import Outcome, run_cli, write_instrument


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the demo's folder; its instrument is small and compares one tile."""
    template = write_instrument(tmp_path / "small.yaml")
    monkeypatch.setattr(demo, "TEMPLATE", template)
    monkeypatch.setattr(demo, "_COMPARED", (1, 1))
    return tmp_path / "out"


def run_demo(out: Path, *options: str) -> Outcome:
    outcome = run_cli("demo", "-o", out, "--tiles", 2, *options)
    assert outcome.code == 0, outcome.err
    return outcome


def test_it_makes_all_of_it_twice(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_demo(out)
    for name in ("slide", "report", "picture"):
        path = next(
            line.split(": ", 1)[1]
            for line in first.out.splitlines()
            if line.startswith(f"{name}: ")
        )
        assert Path(path).is_file()
    assert "the same tiles, scanned in three ways\n" in first.out
    assert re.search(r"model *\W *base\b", first.out)
    assert re.search(r"engine *\W *onnxruntime ", first.out)
    assert first.err.count("virtual slide:") == 1
    assert max(map(len, first.out.splitlines()[:-3])) <= 80
    with Image.open(out / "before-after.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width > 3 * 240
    report = json.loads((out / "scan" / "report.json").read_text())
    rows = {row["strategy"]: row for row in report["comparison"]}
    assert set(rows) == {"two-shot", "stack", "focus-map"}
    assert (rows["two-shot"]["shots"], rows["stack"]["shots"]) == (2, 22)
    assert rows["stack"]["seconds_per_tile"] > 6 * rows["two-shot"]["seconds_per_tile"]

    (out / "my-notes.txt").write_text("kept")
    monkeypatch.setattr(demo, "STRATEGIES", ("two-shot",))
    second = run_demo(out, "--json")
    assert second.document["tiles"] == 2
    assert second.document["captured"] == 2
    assert [row["strategy"] for row in second.document["comparison"]] == ["two-shot"]
    assert (out / "my-notes.txt").read_text() == "kept"


@pytest.mark.parametrize("name", ["scan", "compare", "instrument.yaml"])
def test_the_work_of_others_is_left_alone(out: Path, name: str) -> None:
    """A folder called `scan` may well be a user's scan of a day."""
    found = out / name
    found.mkdir(parents=True)
    (found / "slide.ome.tiff").write_text("mine")
    outcome = run_cli("demo", "-o", out, "--tiles", 2)
    assert outcome.fails(2, str(found), "no demo made this", "another folder")
    assert (found / "slide.ome.tiff").read_text() == "mine"
    assert [path.name for path in out.iterdir()] == [name]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run_cli("demo", "-o", tmp_path / "file" / "new")
    assert outcome.fails(1, str(tmp_path / "file" / "new"), "Not a directory")
