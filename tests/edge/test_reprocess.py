"""Captures fused anew: in this process, in others, on a cluster; one result."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bifocus.calib.profile_file import write_profile
from bifocus.config import load_instrument
from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.reprocess import FuseAnew, reprocess_scan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from bifocus.edge.slide_reader import SlideReader
from bifocus.errors import ConfigError, SlideFileError
from bifocus.hal.open_instrument import open_instrument
from bifocus.jobs import InstrumentFile, scan_instrument
from bifocus.scan_jobs import Helpers, recall_setup, reprocess_scans
from tests.cli.commands import write_instrument
from tests.scanner import ideal_profile

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
REGION_UM = (216.0, 174.0, 100.0, 60.0)  # 2 x 1 tiles


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished scan by physics, with its instrument and profile."""
    folder = tmp_path_factory.mktemp("scan")
    path = write_instrument(folder / "small.yaml")
    config = load_instrument(path)
    with open_instrument(config, base_dir=folder) as instrument:
        profile = ideal_profile(instrument, centre_um=(266.0, 204.0))
        write_profile(folder / "profile.yaml", profile)
    result = scan_instrument(
        InstrumentFile(path=path, config=config),
        folder / "one",
        region_um=REGION_UM,
        profile=folder / "profile.yaml",
        model="physics",
    )
    write_reports(result)
    return folder / "one"


def tiles(scan: Path) -> list[bytes]:
    """The slide's tiles at full resolution as they lie in the file."""
    with SlideReader(scan / "slide.ome.tiff") as slide:
        rows, columns = (-(-side // slide.tile_px) for side in slide.levels[0][::-1])
        return [
            slide.read_tile_jpeg(0, row, column)
            for row in range(rows)
            for column in range(columns)
        ]


def test_the_same_model_makes_the_same_pictures(scanned: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in scanned.rglob("*")}
    (result,) = reprocess_scans([scanned], tmp_path, model="physics")
    report = write_reports(result)
    assert result.folder.root == tmp_path / "one"
    assert (report["tiles"], report["fused"], report["sessions"]) == (2, 2, 1)
    assert tiles(tmp_path / "one") == tiles(scanned)
    assert not list((tmp_path / "one" / "raw").iterdir())
    assert {path: path.stat().st_mtime_ns for path in scanned.rglob("*")} == before
    # Anew from what was made anew: the journal finds the shots from there, too.
    (again,) = reprocess_scans([tmp_path / "one"], model="physics")
    assert again.folder.root == tmp_path / "reprocessed-one"
    assert tiles(again.folder.root) == tiles(scanned)


def test_another_model_makes_other_pictures(scanned: Path, tmp_path: Path) -> None:
    (result,) = reprocess_scans([scanned], tmp_path, model="auto")
    assert result.model != "physics"
    assert tiles(tmp_path / "one") != tiles(scanned)


def test_other_processes_make_the_same_pictures(scanned: Path, tmp_path: Path) -> None:
    helpers = Helpers(workers=2)
    (result,) = reprocess_scans([scanned], tmp_path, model="physics", helpers=helpers)
    assert tiles(tmp_path / "one") == tiles(scanned)
    assert [line.quality for line in result.lines] == [
        pytest.approx(line.quality)
        for line in reprocess_scans([scanned], tmp_path / "b", model="physics")[0].lines
    ]


CLUSTER = """
import json, sys
from pathlib import Path
from distributed import LocalCluster
from bifocus.scan_jobs import Helpers, reprocess_scans

scan, out = map(Path, sys.argv[1:])
with LocalCluster(
    n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
    host="127.0.0.1", dashboard_address=None,
) as cluster:
    address = cluster.scheduler_address
    helpers = Helpers(cluster=address)
    (result,) = reprocess_scans([scan], out, model="physics", helpers=helpers)
print(json.dumps({"address": address, "fused": len(result.lines)}))
"""


def test_a_cluster_makes_the_same_pictures(scanned: Path, tmp_path: Path) -> None:
    """A scheduler and a worker with two threads; all goes through their sockets."""
    pytest.importorskip("distributed", reason="the extra cluster; in the test group")
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(scanned), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["address"].startswith("tcp://127.0.0.1:")
    assert said["fused"] == 2
    assert tiles(tmp_path / "one") == tiles(scanned)


def test_a_missing_shot_and_a_missing_scan_are_told(
    scanned: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="holds no scan"):
        reprocess_scans([tmp_path])
    source = recall_setup(ScanFolder(scanned))
    target = replace(source, folder=ScanFolder(tmp_path / "new"))
    how = FuseAnew(model="physics", wish=EngineWish())
    (scanned / "raw" / "r000_c001_plus.png").rename(tmp_path / "away.png")
    try:
        with (
            closing(choose_fuser("physics")) as fuser,
            pytest.raises(SlideFileError, match=r"r000_c001_plus\.png: cannot read"),
        ):
            reprocess_scan(source, target, how, fuser)
    finally:
        (tmp_path / "away.png").rename(scanned / "raw" / "r000_c001_plus.png")
