"""A network in ONNX Runtime: right pixels, tiled as whole, and refusals."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifocus.edge import network_fuser
from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.network_fuser import NetworkFuser
from bifocus.edge.network_inputs import pair_pictures
from bifocus.edge.network_windows import plan_windows
from bifocus.edge.onnx_fuser import OnnxEngine
from bifocus.errors import EngineError, EngineLostError
from bifocus.physics_fusion import fuse_measured
from bifocus.records import UInt8Image

pytest.importorskip("onnx", reason="makes the graphs; in the test group")
pytest.importorskip("onnxruntime", reason="the engine under test")

from onnx import TensorProto, helper

from tests.edge.network_files import (
    HALO_PX,
    INPUTS,
    OPTICS,
    make_graph,
    measured_pair,
    random_pictures,
    run_whole,
    write_network,
)


def fused(
    engine: OnnxEngine, pictures: Mapping[str, UInt8Image], most_window_px: int
) -> UInt8Image:
    shape = pictures["minus"].shape[:2]
    plan = plan_windows(
        engine.form, (shape[0], shape[1]), most_window_px=most_window_px
    )
    return plan.join(engine.stream(plan.cut(pictures)), (shape[0], shape[1]))


@pytest.mark.parametrize("shape", [(128, 96), (131, 117)])
@pytest.mark.parametrize("most_window_px", [2_000, 6_000, 100_000])
def test_tiled_is_whole_to_the_bit(
    tmp_path: Path, shape: tuple[int, int], most_window_px: int
) -> None:
    content = make_graph()
    engine = OnnxEngine(write_network(tmp_path, content=content))
    pictures = random_pictures(shape)
    even = tuple(side + side % 2 for side in shape)
    padded = {
        name: np.pad(
            part,
            ((0, even[0] - shape[0]), (0, even[1] - shape[1]), (0, 0)),
            mode="edge",
        )
        for name, part in pictures.items()
    }
    expected = run_whole(content, padded)[: shape[0], : shape[1]]
    assert expected.std() > 20
    np.testing.assert_array_equal(fused(engine, pictures, most_window_px), expected)


@pytest.mark.parametrize("halo_px", range(2, HALO_PX, 2))
def test_mutation_a_halo_too_small_changes_pixels(tmp_path: Path, halo_px: int) -> None:
    content = make_graph()
    engine = OnnxEngine(write_network(tmp_path, content=content, halo_px=halo_px))
    pictures = random_pictures((128, 96))
    assert (fused(engine, pictures, 2_000) != run_whole(content, pictures)).any()


def test_the_pair_reaches_the_graph_in_its_order(tmp_path: Path) -> None:
    content = make_graph()
    measured = measured_pair()
    physics = fuse_measured(measured, colours="together")
    pictures = pair_pictures(measured, physics, INPUTS)
    tile = NetworkFuser(OnnxEngine(write_network(tmp_path, content=content))).fuse(
        measured
    )
    np.testing.assert_array_equal(tile.pixels, run_whole(content, pictures))
    assert tile.offset == measured.offsets.tile
    assert tile.sharper_is_plus == measured.sharper_is_plus
    assert tile.quality == physics.quality


@pytest.mark.parametrize(
    "mutation",
    [
        lambda part: {**part, "minus": part["plus"], "plus": part["minus"]},
        lambda part: {name: part[name][..., ::-1] for name in part},
        lambda part: {**part, "physics": part["minus"]},
    ],
    ids=["swapped pair", "blue first", "no physics"],
)
def test_mutation_wrong_pictures_change_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutation: Any
) -> None:
    """The test above can fail for each of these."""
    content = make_graph()
    measured = measured_pair()
    right = pair_pictures(measured, fuse_measured(measured, colours="together"), INPUTS)
    monkeypatch.setattr(
        network_fuser, "pair_pictures", lambda *given: mutation(pair_pictures(*given))
    )
    tile = NetworkFuser(OnnxEngine(write_network(tmp_path, content=content))).fuse(
        measured
    )
    assert (tile.pixels != run_whole(content, right)).any()


def test_the_name_tells_library_device_and_threads(tmp_path: Path) -> None:
    engine = OnnxEngine(write_network(tmp_path))
    assert engine.name.startswith("onnxruntime 1.")
    assert f"CPU, {count_threads()} thread" in engine.name


def test_one_core_is_left_to_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert count_threads() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert count_threads() == 1


def test_threads_do_not_spin(tmp_path: Path) -> None:
    options = OnnxEngine(write_network(tmp_path)).session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_buffers_are_made_once_for_a_size(tmp_path: Path) -> None:
    engine = OnnxEngine(write_network(tmp_path))
    windows = [random_pictures((64, 64), seed) for seed in range(3)]
    places = {pixels.ctypes.data for pixels in engine.stream(windows)}
    assert len(places) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verified": False}, "unverified"),
        ({"inputs": ()}, "not a manifest"),
        ({"halo_px": 7}, "no multiple of the stride"),
    ],
)
def test_a_manifest_that_does_not_fit(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    if "inputs" in changes:
        path = write_network(tmp_path)
        text = path.with_name("tiny.onnx.manifest.json")
        text.write_text(text.read_text().replace('"minus"', '"a"', 1)[:-50])
    else:
        path = write_network(tmp_path, **changes)
    with pytest.raises(EngineError, match=reason):
        OnnxEngine(path)


def test_a_graph_of_other_tensors_is_refused(tmp_path: Path) -> None:
    content = make_graph()
    spec = write_network(tmp_path, content=content)
    changed = write_network(
        tmp_path,
        "other.onnx",
        content=content,
        inputs=tuple(
            {"name": name, "dtype": "uint8", "layout": "NHWC"}
            for name in ("minus", "plus", "sharper")
        ),
    )
    assert OnnxEngine(spec).form.inputs == INPUTS
    with pytest.raises(EngineError, match=r"it has physics .*Mend: bifocus export"):
        OnnxEngine(changed)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_file_that_was_cut_short_is_never_loaded(tmp_path: Path, keep: int) -> None:
    path = write_network(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(EngineError, match=r"changed or cut short\. Mend: bifocus exp"):
        OnnxEngine(path)


def test_rubbish_with_a_right_hash_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path, content=b"not a graph")
    with pytest.raises(EngineError, match=r"cannot load it: .*Mend: bifocus export"):
        OnnxEngine(path)


def test_a_graph_without_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    with pytest.raises(EngineError, match="no such network"):
        OnnxEngine(path)
    path.write_bytes(make_graph())
    with pytest.raises(EngineError, match="no manifest beside it"):
        OnnxEngine(path)


def test_a_pair_outside_the_trained_ranges_is_refused(tmp_path: Path) -> None:
    fuser = NetworkFuser(OnnxEngine(write_network(tmp_path)))
    fuser.check_optics(OPTICS)
    wide = replace(OPTICS, half_spacing_um=2.5)
    with pytest.raises(EngineError, match=r"half_spacing_um is 2\.5, trained for 0\.4"):
        fuser.check_optics(wide)
    with pytest.raises(EngineError, match="--model physics"):
        fuser.fuse(replace(measured_pair(), optics=wide))


def test_a_failure_at_work_is_a_lost_engine(tmp_path: Path) -> None:
    engine = OnnxEngine(write_network(tmp_path, content=make_graph(size=(1, 64, 64))))
    windows = [random_pictures((66, 64))]
    with pytest.raises(EngineLostError, match="failed on a window of 64x66 px"):
        list(engine.stream(windows))


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = OnnxEngine(write_network(tmp_path))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        list(engine.stream([random_pictures((64, 64))]))


def older_graph(**changes: str) -> bytes:
    """float32 NCHW, as before manifests; gives the physics image back."""
    sizes: list[str | int | None] = ["N", 3, "H", "W"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in INPUTS
    ]
    output = helper.make_tensor_value_info("fused", TensorProto.FLOAT, sizes)
    node = helper.make_node("Identity", ["physics"], ["fused"])
    graph = helper.make_graph([node], "older", inputs, [output])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    metadata = {"network": "fast", "inputs": json.dumps(INPUTS), **changes}
    helper.set_model_props(model, {"stride_px": "8", "halo_px": "16"} | metadata)
    return bytes(model.SerializeToString())


def test_an_older_graph_of_floats_still_runs(tmp_path: Path) -> None:
    path = tmp_path / "fresh.onnx"
    path.write_bytes(older_graph())
    pair = measured_pair()
    fuser = NetworkFuser(OnnxEngine(path), most_window_px=10_000)
    assert fuser.model == "fast"
    np.testing.assert_array_equal(
        fuser.fuse(pair).pixels, fuse_measured(pair, colours="together").pixels
    )
    path.write_bytes(older_graph(inputs='["plus", "minus", "physics"]'))
    with pytest.raises(EngineError, match="says it takes"):
        OnnxEngine(path)
    path.write_bytes(older_graph(halo_px="much"))
    with pytest.raises(EngineError, match="nor says itself what it takes"):
        OnnxEngine(path)
