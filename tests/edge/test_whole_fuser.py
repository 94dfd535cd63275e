"""One graph from two shots to the tile: in ONNX Runtime, and on the simulated GPU."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="runs them, and stands in for the kernels")

from bifocus.edge.engine_choice import EngineWish, choose_fuser
from bifocus.edge.network_inputs import load_form
from bifocus.edge.tensorrt_fuser import TensorrtEngine
from bifocus.edge.whole_fuser import WholeFuser
from bifocus.edge.whole_onnx import WholeOnnxEngine
from bifocus.errors import EngineError, EngineLostError
from bifocus.physics_fusion import MeasuredPair
from bifocus.records import FusedTile
from tests.edge.network_files import make_graph, measured_pair, write_network
from tests.edge.simulated_tensorrt import (
    GPU,
    SimulatedTensorRT,
    WholeTensorRT,
    write_engine,
)
from tests.edge.test_tensorrt_fuser import ADAPTERS, Bench, make_bench
from tests.edge.whole_files import (
    OPTICS,
    WIDER,
    expected_fusion,
    whole_manifest,
    whole_pair,
    write_whole,
)

MENDED = r"bifocus export tiny.safetensors -o DIR --to onnx .* --tile 64 80 --whole"


def check_tile(tile: FusedTile, measured: MeasuredPair) -> None:
    pixels, numbers = expected_fusion(measured)
    away = np.abs(tile.pixels.astype(int) - pixels)
    assert away.max() <= 1  # a sum on the edge between two levels
    assert (away > 0).mean() < 1e-3
    assert tile.offset.offset_um == pytest.approx(numbers["offset_um"], rel=1e-5)
    assert tile.offset.sd_um == pytest.approx(numbers["sd_um"], rel=1e-5)
    assert tile.offset.confidence == pytest.approx(numbers["confidence"])
    assert tile.quality == pytest.approx(numbers["quality"])
    assert tile.sharper_is_plus == numbers["sharper_is_plus"]


def test_onnx_runtime_fuses_with_the_optics_of_each_pair(tmp_path: Path) -> None:
    wish = EngineWish(engine="onnxruntime")
    fuser = choose_fuser(str(write_whole(tmp_path)), wish)
    assert fuser.model == "tiny, physics inside"
    assert fuser.engine.startswith("onnxruntime ")
    for optics in (OPTICS, WIDER, OPTICS):
        check_tile(fuser.fuse(whole_pair(optics)), whole_pair(optics))
    fuser.close()
    fuser.close()
    with pytest.raises(EngineError, match="closed"):
        fuser.fuse(whole_pair())


def test_the_tables_come_once_for_each_optics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought: list[float] = []
    engine = WholeOnnxEngine(write_whole(tmp_path))
    take = engine.set_tables

    def note(tables: Any) -> None:
        brought.append(float(tables["scale_um"][1]))
        take(tables)

    monkeypatch.setattr(engine, "set_tables", note)
    fuser = WholeFuser(engine)
    for optics in (OPTICS, OPTICS, WIDER, WIDER):
        fuser.fuse(whole_pair(optics))
    assert brought == pytest.approx([0.75, 0.9])


def test_what_it_was_not_made_for_is_refused_with_what_mends_it(
    tmp_path: Path,
) -> None:
    fuser = WholeFuser(WholeOnnxEngine(write_whole(tmp_path)))
    with pytest.raises(EngineError, match=r"80x64 px, got 160x160; .* 160 160 --w"):
        fuser.fuse(measured_pair())
    stored = dataclasses.replace(whole_pair(), tone_curve="srgb")
    with pytest.raises(EngineError, match=r"linear values.*bifocus export tiny"):
        fuser.fuse(stored)
    far = dataclasses.replace(OPTICS, half_spacing_um=3.0)
    with pytest.raises(EngineError, match="half_spacing_um is 3"):
        fuser.check_optics(far)


def test_tables_of_another_shape_are_refused(tmp_path: Path) -> None:
    engine = WholeOnnxEngine(write_whole(tmp_path))
    tables = tuple(
        spec.model_copy(update={"shape": (3, 99)}) if spec.name == "in_focus" else spec
        for spec in engine.form.tables
    )
    engine.form = dataclasses.replace(engine.form, tables=tables)
    with pytest.raises(EngineError, match=rf"'in_focus' is \(3, 99\).*{MENDED}"):
        WholeFuser(engine).check_optics(OPTICS)
    inputs = whole_manifest()["inputs"]
    odd = (*inputs[:3], inputs[3].model_copy(update={"shape": (3, 99)}), *inputs[4:])
    with pytest.raises(EngineError, match=r"it has in_focus \(float32 \(3, 64\)\)"):
        WholeOnnxEngine(write_whole(tmp_path, inputs=odd))


def test_nan_is_the_end_of_the_engine(tmp_path: Path) -> None:
    engine = WholeOnnxEngine(write_whole(tmp_path))
    fuser = WholeFuser(engine)
    fuser.fuse(whole_pair())
    bad = {spec.name: np.full(spec.shape or (), np.nan) for spec in engine.form.tables}
    engine.set_tables({name: table.astype(np.float32) for name, table in bad.items()})
    with pytest.raises(EngineLostError, match="NaN"):
        fuser.fuse(whole_pair())


def test_it_is_no_network_on_windows(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds the physics too"):
        load_form(write_whole(tmp_path))


def test_a_network_alone_is_no_whole_fusion(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not two shots of one size"):
        load_form(write_network(tmp_path), is_whole=True)
    fixed = {"height_px": 64, "width_px": 80, "batch": 1, "physics": "inside"}
    path = write_network(tmp_path, "odd.onnx", content=make_graph(), **fixed)
    with pytest.raises(EngineError, match="not two shots of one size"):
        choose_fuser(str(path))


@pytest.fixture(params=ADAPTERS)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    made = make_bench(tmp_path, monkeypatch, request.param)
    made.trt = WholeTensorRT(made.gpu)
    return made


def open_whole(bench: Bench, **options: Any) -> TensorrtEngine:
    path = write_engine(bench.folder, bench.trt, **whole_manifest())
    return bench.open(path, is_whole=True, **options)


@pytest.mark.parametrize("is_integrated", [False, True])
def test_tensorrt_fuses_with_the_optics_of_each_pair(
    bench: Bench, is_integrated: bool
) -> None:
    device = dataclasses.replace(GPU, is_integrated=is_integrated)
    fuser = WholeFuser(open_whole(bench, device=device))
    assert fuser.engine.endswith("CUDA graph")
    for optics in (OPTICS, WIDER, WIDER, OPTICS):
        check_tile(fuser.fuse(whole_pair(optics)), whole_pair(optics))
    assert ("copy" in bench.gpu.calls) != is_integrated
    fuser.close()
    bench.gpu.check_closed()


def test_the_gpu_gets_the_tables_once_and_nothing_is_allocated(bench: Bench) -> None:
    fuser = WholeFuser(open_whole(bench))
    fuser.fuse(whole_pair())
    bench.gpu.calls.clear()
    first = fuser.fuse(whole_pair())
    # Two shots up, one picture and seven numbers down.
    assert bench.gpu.calls.count("copy") == 2 + 1 + 7
    assert not [call for call in bench.gpu.calls if call.startswith("allocate")]
    kept = first.pixels.copy()
    bench.gpu.calls.clear()
    fuser.fuse(whole_pair(WIDER))
    assert bench.gpu.calls.count("copy") == 4 + 2 + 1 + 7
    np.testing.assert_array_equal(first.pixels, kept)  # the slot is used again
    fuser.close()
    bench.gpu.check_closed()


def test_an_engine_of_a_network_alone_is_refused(bench: Bench) -> None:
    path = write_engine(bench.folder, bench.trt)
    with pytest.raises(EngineError, match="not two shots of one size"):
        bench.open(path, is_whole=True)
    with pytest.raises(EngineError, match="holds the physics too"):
        bench.open(write_engine(bench.folder, bench.trt, **whole_manifest()))
    bench.trt = SimulatedTensorRT(bench.gpu)
    with pytest.raises(EngineError, match="the engine"):
        open_whole(bench)
