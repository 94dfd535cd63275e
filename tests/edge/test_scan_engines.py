"""Engines in the loop: refused before anything moves, lost in mid-scan."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="stands in for the kernels")

from bifocus.edge.engine_chain import Candidate, EngineChain
from bifocus.edge.fusers import Fuser, PhysicsFuser
from bifocus.edge.network_fuser import NetworkFuser
from bifocus.edge.onnx_fuser import OnnxEngine
from bifocus.edge.scan import Scan
from bifocus.edge.scan_folder import ScanFolder
from bifocus.edge.scan_report import write_reports
from bifocus.errors import EngineError, EngineLostError
from bifocus.hal.open_instrument import OpenInstrument
from tests.edge.network_files import write_network
from tests.edge.test_tensorrt_fuser import make_bench
from tests.scanner import (
    RecordingStage,
    ideal_profile,
    open_scanner,
    plan_region,
    scanner_config,
)

TWO_TILES_UM = (440.0, 340.0, 110.0, 60.0)


def make_scan(
    instrument: OpenInstrument, root: Path, stage: RecordingStage, fuser: Fuser
) -> Scan:
    profile = ideal_profile(instrument)
    return Scan(
        stage=stage,
        camera=instrument.camera,
        clock=instrument.clock,
        config=instrument.config,
        profile=profile,
        plan=plan_region(instrument.config, profile.focus_um.value, TWO_TILES_UM),
        folder=ScanFolder(root),
        fuser=fuser,
        truth=instrument.truth,
    )


def losing_chain(
    folder: Path, monkeypatch: pytest.MonkeyPatch, on_failure: Any
) -> EngineChain:
    """A chain whose GPU is lost in the middle of the second tile."""
    bench = make_bench(folder, monkeypatch, "pycuda")
    engine = bench.open()
    # A tile of 256 px takes 5 x 7 windows of 64 x 48 px with a halo of 6.
    tile = len(range(0, 256 - 12, 52)) * len(range(0, 256 - 12, 36))
    waits = bench.gpu.calls.count("synchronize") + tile + tile // 2
    bench.gpu.failures["synchronize"] = (waits, "cudaErrorIllegalAddress")
    return EngineChain(
        [
            Candidate(name="tensorrt", open=lambda: NetworkFuser(engine)),
            Candidate(name="physics", open=PhysicsFuser, is_spare=True),
        ],
        on_failure,
    )


@pytest.mark.slow
def test_a_lost_gpu_hands_over_with_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuser = losing_chain(tmp_path, monkeypatch, "next")
    assert fuser.engine.startswith("tensorrt 10.3.0")
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        result = make_scan(instrument, tmp_path / "scan", stage, fuser).run()
    fuser.close()
    report = write_reports(result)
    assert (report["tiles"], report["captured"], report["fused"]) == (2, 2, 2)
    assert report["model"] == "physics"
    (fault,) = report["faults"]
    assert "tensorrt 10.3.0, Simulated, pycuda 2026.1, CUDA graph failed" in fault
    assert "cudaErrorIllegalAddress" in fault
    assert fault.endswith("went on")
    page = (tmp_path / "scan" / "report.html").read_text(encoding="utf-8")
    assert "cudaErrorIllegalAddress" in page


@pytest.mark.slow
def test_a_lost_gpu_stops_the_stage_and_loses_no_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuser = losing_chain(tmp_path, monkeypatch, "stop")
    with open_scanner(scanner_config()) as instrument:
        stage = RecordingStage(instrument.stage)
        scan = make_scan(instrument, tmp_path / "scan", stage, fuser)
        with pytest.raises(EngineLostError, match="What was captured is kept"):
            scan.run()
    assert stage.stops == 1
    fuser.close()
    shots = sorted(path.name for path in (tmp_path / "scan" / "raw").iterdir())
    assert len(shots) == 4


def test_a_network_for_other_optics_is_refused_before_anything_moves(
    tmp_path: Path,
) -> None:
    fuser = NetworkFuser(OnnxEngine(write_network(tmp_path)))
    with open_scanner(scanner_config(scan={"half_spacing_um": 2.5})) as instrument:
        stage = RecordingStage(instrument.stage)
        scan = make_scan(instrument, tmp_path / "scan", stage, fuser)
        with pytest.raises(EngineError, match=r"half_spacing_um is 2\.5"):
            scan.run()
    assert stage.targets == []
    assert not (tmp_path / "scan").exists()
