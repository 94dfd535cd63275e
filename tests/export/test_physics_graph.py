"""The physics fusion as a graph, against the NumPy fusion, OpenCV and FFTs."""

import dataclasses
from functools import lru_cache
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import scipy.fft
import torch
from onnx import TensorProto, helper
from scipy.ndimage import fourier_shift

from bifocus.block_fusion import Colours
from bifocus.errors import ConfigError, EngineError
from bifocus.export.block_transform import BlockTransform
from bifocus.export.moved_shot import move
from bifocus.export.shift_graph import ShiftGraph
from bifocus.export.tensorrt_audit import Claim
from bifocus.export.tensorrt_build import build_engine
from bifocus.export.tensorrt_profile import BuildOptions
from bifocus.export.whole_fusion import (
    NUMBERS,
    build_physics_parts,
    compose_whole_fusion,
    finish_physics,
)
from bifocus.focal_offset import PairOptics
from bifocus.optics_inputs import transfer_inputs
from bifocus.pair_spectra import SMALL_BLOCKS, compute_spectra, fill_statistics
from bifocus.physics_fusion import fuse_measured, measure_pair
from bifocus.tensorrt_module import load_tensorrt
from bifocus.tone import join_levels
from bifocus.transfer import INCOHERENT, Light
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.uint8_graphs import two_shot_graph
from tests.imaging import MATCHED, RenderedPair, psnr_db, shoot_incoherent
from tests.tissue import procedural_tissue

Float32 = npt.NDArray[np.float32]
Graphs = dict[str, onnx.ModelProto]
KINDS: tuple[Colours, ...] = get_args(Colours)

# Neither square nor whole blocks; large enough for the fit of a plane.
SHAPE = (160, 192)
OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75, light=INCOHERENT)


@pytest.fixture(scope="module")
def parts() -> onnx.ModelProto:
    return build_physics_parts(SHAPE)


@pytest.fixture(scope="module")
def graphs(parts: onnx.ModelProto) -> Graphs:
    network = onnx.load_from_string(two_shot_graph("float16"))
    return {
        **{kind: finish_physics(parts, colours=kind) for kind in KINDS},
        "network": network,
        "whole": compose_whole_fusion(network, parts),
    }


def shot_pair(offset_um: float, drift_px: tuple[int, int] = (0, 0)) -> RenderedPair:
    """Return a pair whose plus shot shows what lies `drift_px` further."""
    tissue = procedural_tissue(224, seed=7)
    pair = shoot_incoherent(tissue, offset_um, 0.75, MATCHED, np.random.default_rng(3))
    down, right = drift_px

    def cut(picture: Any, top: int, left: int) -> Any:
        return np.ascontiguousarray(
            picture[top : top + SHAPE[0], left : left + SHAPE[1]]
        )

    plus = cut(pair.plus, 16 + down, 16 + right)
    return RenderedPair(
        minus=cut(pair.minus, 16, 16),
        plus=plus,
        truth=cut(pair.truth, 16, 16),
        offset_um=offset_um,
    )


@lru_cache(maxsize=4)
def open_session(content: bytes) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(
    model: onnx.ModelProto, pair: RenderedPair, optics: PairOptics = OPTICS
) -> dict[str, Any]:
    session = open_session(model.SerializeToString())
    feeds: dict[str, Any] = {"minus": pair.minus[None], "plus": pair.plus[None]}
    feeds |= transfer_inputs(optics, SMALL_BLOCKS.block_px)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("colours", KINDS)
@pytest.mark.parametrize(
    ("offset_um", "drift_px"), [(-0.6, (0, 0)), (0.5, (1, -2)), (0.05, (0, 0))]
)
def test_the_graph_fuses_as_numpy_does(
    graphs: Graphs, offset_um: float, drift_px: tuple[int, int], colours: Colours
) -> None:
    pair = shot_pair(offset_um, drift_px)
    measured = measure_pair(pair.minus, pair.plus, OPTICS)
    expected = fuse_measured(measured, colours=colours)
    got = run(graphs[colours], pair)
    assert got["physics"].dtype == np.uint8
    found_db, *other_db = (
        psnr_db(
            got["physics"][0], fuse_measured(measured, colours=kind).pixels, margin_px=1
        )
        for kind in sorted(KINDS, key=lambda kind: kind != colours)
    )
    # 60 dB: every fourth value may differ by one level; 75 is usual.
    assert found_db > 60
    # It is no picture of the other kind.
    assert max(other_db) < found_db - 10
    assert got["offset_um"] == pytest.approx(expected.offset.offset_um, abs=0.002)
    assert got["sd_um"] == pytest.approx(expected.offset.sd_um, abs=0.002)
    assert got["confidence"] == pytest.approx(expected.offset.confidence, abs=0.01)
    assert got["quality"] == pytest.approx(expected.quality, abs=0.002)
    assert bool(got["sharper_is_plus"]) == expected.sharper_is_plus
    np.testing.assert_allclose(got["shift_px"], measured.shift_px, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 255])
def test_nothing_to_see_is_no_nan(graphs: Graphs, level: int) -> None:
    """Bare glass, overexposed: what keeps quotients finite must outlive the export."""
    shot = np.full((*SHAPE, 3), level, dtype=np.uint8)
    pair = RenderedPair(minus=shot, plus=shot, truth=shot, offset_um=0)
    for colours in KINDS:
        got = run(graphs[colours], pair)
        np.testing.assert_array_equal(got["physics"][0], shot)
        assert all(np.isfinite(got[name]).all() for name in NUMBERS)
        assert got["clearest"] == 0


@pytest.mark.slow
def test_each_shot_has_its_own_input(graphs: Graphs) -> None:
    pair = shot_pair(-0.6)
    swapped = RenderedPair(
        minus=pair.plus, plus=pair.minus, truth=pair.truth, offset_um=0.6
    )
    straight, turned = (run(graphs["apart"], each) for each in (pair, swapped))
    assert straight["offset_um"] == pytest.approx(-0.6, abs=0.15)
    assert turned["offset_um"] == pytest.approx(-float(straight["offset_um"]), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"half_spacing_um": 1.0},
        {"na": 0.68, "light": Light(condenser=0.6, phase_ratio=1.5)},
        {"chromatic_um": (0.4, 0.0, -0.3), "z_scale": 1.1},
        {"is_measured": True},
    ],
    ids=["dD", "NA and light", "colours and scale", "measured"],
)
def test_the_optics_of_the_profile_reach_the_graph(
    graphs: Graphs, changes: dict[str, Any]
) -> None:
    """One graph for all: what calibration measured comes in by the tables."""
    pair, optics = shot_pair(-0.6), dataclasses.replace(OPTICS, **changes)
    measured = measure_pair(pair.minus, pair.plus, optics)
    expected = fuse_measured(measured, colours="together")
    plain = run(graphs["together"], pair)
    got = run(graphs["together"], pair, optics)
    assert got["offset_um"] == pytest.approx(expected.offset.offset_um, abs=0.002)
    assert got["quality"] == pytest.approx(expected.quality, abs=0.002)
    weight = float(measured.offsets.weight.max())
    assert got["clearest"] == pytest.approx(weight, abs=0.002)
    found_db, plain_db = (
        psnr_db(one["physics"][0], expected.pixels, margin_px=1) for one in (got, plain)
    )
    assert found_db > 60
    # Had the table not arrived, the picture would be that of the plain optics.
    assert plain_db < found_db - 10


@pytest.mark.slow
def test_the_whole_fusion_is_the_network_on_aligned_shots(graphs: Graphs) -> None:
    pair = shot_pair(0.5, (1, -2))
    got = run(graphs["whole"], pair)
    down, right = measure_pair(pair.minus, pair.plus, OPTICS).shift_px
    moved = cv2.warpAffine(
        pair.minus,
        np.array([[1, 0, -right], [0, 1, -down]]),
        (SHAPE[1], SHAPE[0]),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    assert got["sharper_is_plus"] == 1
    onnxruntime = pytest.importorskip("onnxruntime")
    network = onnxruntime.InferenceSession(graphs["network"].SerializeToString())
    feeds = {"minus": moved[None], "plus": pair.plus[None]}
    (expected,) = network.run(None, feeds)
    # OpenCV moves by 1/32 of a pixel at the finest, and the network adds it up.
    assert psnr_db(got["fused"][0], expected[0], margin_px=1) > 45
    assert set(got) == {"fused", *NUMBERS}


@pytest.mark.slow
def test_planes_in_0_to_1_fit_as_well(parts: onnx.ModelProto) -> None:
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    kind = TensorProto.FLOAT
    network = helper.make_model(
        helper.make_graph(
            [helper.make_node("Sub", ["physics", "other"], ["fused"])],
            "difference",
            [
                helper.make_tensor_value_info(n, kind, shape)
                for n in ("physics", "other")
            ],
            [helper.make_tensor_value_info("fused", kind, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    pair = shot_pair(-0.6)
    measured = measure_pair(pair.minus, pair.plus, OPTICS)
    fused = run(compose_whole_fusion(network, parts), pair)["fused"][0]

    def error_db(colours: Colours) -> float:
        physics = fuse_measured(measured, colours=colours).pixels.astype(int)
        expected = np.clip(physics - pair.plus, 0, 255).astype(np.uint8)
        return psnr_db(fused, expected, margin_px=1)

    # The shots lie on one grid to some hundredths of a pixel.
    assert error_db("together") > 60
    # A network starts from all colours together, never from each apart.
    assert error_db("apart") < error_db("together") - 5


@pytest.mark.slow
def test_a_network_gets_the_joint_picture_unrounded(parts: onnx.ModelProto) -> None:
    """Levels and remainder of the graph are those of NumPy, taken together."""
    pair = shot_pair(-0.6)
    found = {
        name: run(compose_whole_fusion(given_back(name), parts), pair)["fused"][0]
        for name in ("physics", "remainder")
    }
    measured = measure_pair(pair.minus, pair.plus, OPTICS)
    physics = fuse_measured(measured, colours="together")
    inside = (slice(1, -1), slice(1, -1))
    exact = join_levels(physics.pixels, physics.remainder())[inside]
    joined = join_levels(found["physics"], found["remainder"])
    error = np.abs(joined[inside] - exact)
    rounded = np.abs(found["physics"][inside] - exact)
    # What both ways differ by is small beside what rounding would take.
    assert error.mean() < 0.05
    assert rounded.mean() == pytest.approx(0.25, abs=0.02)


def given_back(name: str) -> onnx.ModelProto:
    """Return a network that gives one of its pictures back, as bytes."""
    shape: list[str | int | None] = ["N", "H", "W", 3]
    nodes = [
        helper.make_node("Cast", [name], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["levels"], ["fused"], to=TensorProto.UINT8),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.UINT8, shape)
        for n in (name, "fused")
    ]
    return helper.make_model(
        helper.make_graph(nodes, "given", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


@pytest.mark.slow
def test_what_does_not_fit_together_is_refused(
    parts: onnx.ModelProto, graphs: Graphs
) -> None:
    network = onnx.ModelProto()
    network.CopyFrom(graphs["network"])
    network.graph.input[0].name = "left"
    with pytest.raises(EngineError, match="left"):
        compose_whole_fusion(network, parts)
    network.CopyFrom(graphs["network"])
    network.opset_import[0].version = 20
    with pytest.raises(EngineError, match="opset 20, the physics graph 18"):
        compose_whole_fusion(network, parts)
    network.CopyFrom(graphs["network"])
    network.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 512
    with pytest.raises(EngineError, match="512"):
        compose_whole_fusion(network, parts)
    with pytest.raises(ConfigError, match="64 px"):
        build_physics_parts((40, 200))


@pytest.mark.slow
def test_tensorrt_for_rtx_builds_both(graphs: Graphs) -> None:
    need_tensorrt_rtx()
    trt = load_tensorrt("tensorrt_rtx")
    options = BuildOptions(
        claim=Claim(precision="fp16", n_other=1, images=("minus", "plus", "fused")),
        height_px=SHAPE[0],
        width_px=SHAPE[1],
        stride_px=8,
        workspace_bytes=1 << 30,
        can_run=False,
    )
    built = build_engine(trt, graphs["whole"].SerializeToString(), options)
    assert built.audit["CONVOLUTION float16"] == 2
    assert len(built.plan) > 1_000_000


def test_statistics_are_those_of_the_fft() -> None:
    light = np.random.default_rng(0).random((2, *SHAPE, 3), dtype=np.float32)
    expected = compute_spectra(light[0], light[1])
    fill_statistics(expected)
    count = SMALL_BLOCKS.block_px // 2
    transform = BlockTransform(SHAPE, SMALL_BLOCKS)
    basis = transform.basis(torch.zeros(2, 2))
    down, across = expected.grid
    for colour in range(3):
        planes = torch.from_numpy(np.ascontiguousarray(light[..., colour]))
        coefficients, means = transform(planes, *basis)
        got = transform.statistics(coefficients).numpy()
        # Columns of blocks come first in the graph.
        order = np.arange(down * across).reshape(down, across).T.ravel()
        sums = expected.statistics[:, order, colour]
        mean = sums / np.maximum(expected_counts(), 1)
        assert got.shape == (3, down * across, count)
        # Rings 0 and 1 hold what is left of the mean: rounding.
        np.testing.assert_allclose(got[:2, :, 2:], mean[:2, :, 2:], rtol=2e-4)
        np.testing.assert_allclose(got[2, :, 2:], mean[2, :, 2:], atol=2e-4)
        np.testing.assert_allclose(
            means.numpy(), expected.means[:, order, colour], atol=1e-6
        )


def expected_counts() -> Float32:
    """Return the coefficients in each ring, counted over the whole plane."""
    size = SMALL_BLOCKS.block_px
    radius = np.hypot(*np.meshgrid(*[scipy.fft.fftfreq(size)] * 2))
    ring = np.minimum(radius / (np.sqrt(0.5) / (size // 2)), size // 2 - 1)
    return np.bincount(ring.astype(int).ravel(), minlength=size // 2).astype(np.float32)


def test_blocks_add_up_to_the_picture_again() -> None:
    light = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    transform = BlockTransform(SHAPE, SMALL_BLOCKS)
    coefficients, means = transform(light, *transform.basis(torch.zeros(1, 2)))
    gains = torch.ones(1, coefficients.shape[1], SMALL_BLOCKS.block_px // 2)
    back = transform.back(transform.filtered(coefficients, gains), means[0])
    np.testing.assert_allclose(back.numpy(), light[0].numpy(), atol=2e-5)


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.31, -1.2), (-5.5, 8.25)])
def test_the_shift_is_found_to_a_fiftieth(shift_px: tuple[float, float]) -> None:
    green = procedural_tissue(192, seed=4)[: SHAPE[0], :, 1]
    moved = np.fft.ifftn(fourier_shift(np.fft.fftn(green), shift_px)).real
    # Moved and turned round: the graph says how to bring the second to the first.
    shots = np.stack([moved, green])[:, None].repeat(3, axis=1).astype(np.float32)
    found = ShiftGraph(SHAPE)(torch.from_numpy(shots)).numpy()
    np.testing.assert_allclose(found, shift_px, atol=0.02)


def test_unlike_shots_are_not_moved() -> None:
    shots = torch.rand(2, 3, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert ShiftGraph(SHAPE)(shots).tolist() == [0, 0]


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.25, -1.5), (-3.0, 2.75)])
def test_pictures_move_as_opencv_moves_them(shift_px: tuple[float, float]) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    down, right = shift_px
    expected = cv2.warpAffine(
        picture,
        np.array([[1, 0, right], [0, 1, down]]),
        (50, 40),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    got = move(torch.from_numpy(picture).float(), torch.tensor(shift_px)).numpy()
    # Its weights are whole multiples of 1/32768, and it rounds once.
    assert np.abs(got - expected.astype(int)).max() <= 1
