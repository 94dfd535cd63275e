"""Engines are built alike by every version, and only from what fits.

What needs no GPU runs in the real TensorRT for RTX; the rest against a stand-in that
knows the recorded names of each version.
"""

import dataclasses
from typing import Any, Literal

import pytest
from onnx import TensorProto

from bifocus.errors import ConfigError, EngineError
from bifocus.export.tensorrt_audit import Claim, audit_inspection
from bifocus.export.tensorrt_build import build_engine
from bifocus.export.tensorrt_profile import BuildOptions
from bifocus.tensorrt_api import TensorRT
from bifocus.tensorrt_module import load_tensorrt
from tests.export.real_tensorrt import need_tensorrt_rtx
from tests.export.tensorrt_double import VERSIONS, FakeTensorRT, inspection
from tests.export.uint8_graphs import IMAGES, two_shot_graph

Precision = Literal["fp32", "fp16", "int8"]


def build_options(precision: Precision = "fp16", **changes: Any) -> BuildOptions:
    options = BuildOptions(
        claim=Claim(precision=precision, images=IMAGES),
        height_px=64,
        width_px=96,
        stride_px=8,
        workspace_bytes=1 << 28,
        can_run=False,
    )
    return dataclasses.replace(options, **changes)


@pytest.fixture(scope="module")
def rtx() -> TensorRT:
    need_tensorrt_rtx()
    return load_tensorrt("tensorrt_rtx")


@pytest.mark.parametrize(
    ("precision", "core"),
    [("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")],
)
def test_the_real_builder_takes_each_precision(
    rtx: TensorRT, precision: Precision, core: Any
) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build_engine(
        rtx,
        two_shot_graph(core),
        build_options(precision),
        on_progress=lambda *step: steps.append(step),
    )
    kind = {"float32": "float32", "float16": "float16", "int8": "int8"}[core]
    assert built.audit == {f"CONVOLUTION {kind}": 2}
    assert len(built.plan) > 10_000
    assert built.timing_cache == b""
    assert steps[0][1] == 0
    assert all(0 <= done <= total for _, done, total in steps)


@pytest.mark.parametrize(
    ("precision", "graph", "words"),
    [
        (
            "fp16",
            {"core": "float32"},
            r"claims fp16, but of 2 .* 2 in float32",
        ),
        ("int8", {"core": "float16"}, r"claims int8, .* 2 in float16"),
        ("fp32", {"core": "float16"}, r"claims fp32"),
        ("fp16", {"transposes_bytes": True}, r"UInt8.* only next to a cast"),
        ("int8", {"core": "int8", "has_int32_bias": True}, r"leave biases in float"),
        ("fp16", {"image_type": TensorProto.FLOAT}, r"'minus' is FLOAT.*must be UINT8"),
    ],
)
def test_the_real_parser_and_the_audit_refuse(
    rtx: TensorRT, precision: Precision, graph: dict[str, Any], words: str
) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        build_engine(rtx, two_shot_graph(**graph), build_options(precision))
    assert "\n" not in str(caught.value)


def test_a_stem_that_stays_wide_is_allowed_when_it_is_named(rtx: TensorRT) -> None:
    options = build_options("fp16")
    claim = dataclasses.replace(options.claim, n_other=2)
    built = build_engine(
        rtx, two_shot_graph("float32"), dataclasses.replace(options, claim=claim)
    )
    assert built.audit == {"CONVOLUTION float32": 2}


@pytest.mark.parametrize("content", [b"", b"not a graph", two_shot_graph()[:500]])
def test_a_damaged_graph_is_refused_by_the_real_parser(
    rtx: TensorRT, content: bytes
) -> None:
    with pytest.raises(EngineError, match=r"refuses the graph|no convolution|missing"):
        build_engine(rtx, content, build_options())


@pytest.mark.parametrize(
    ("sides", "nearest"), [((60, 96), 64), ((64, 100), 96), ((3, 96), 8)]
)
def test_a_size_off_the_stride_is_refused_with_the_nearest(
    sides: tuple[int, int], nearest: int
) -> None:
    with pytest.raises(ConfigError, match=rf"nearest legal side is {nearest} px"):
        build_options(height_px=sides[0], width_px=sides[1])


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_builds_with_a_timing_cache_and_is_inspected(version: str) -> None:
    trt: Any = FakeTensorRT(version, inspection=inspection(version, "float16"))
    steps: list[tuple[str, int, int]] = []
    built = build_engine(
        trt,
        b"graph",
        build_options(can_run=True, optimisation_level=4),
        timing_cache=b"old",
        on_progress=lambda *step: steps.append(step),
    )
    assert built.plan == b"plan of " + version.encode()
    assert built.audit == {"CONVOLUTION float16": 1, "kernel float16": 1}
    assert built.timing_cache == b"old+timed"
    assert steps == [("Building", 0, 2), ("Building", 1, 2), ("Building", 2, 2)]
    assert trt.called("Builder.create_network") == [
        (1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),)
    ]
    assert [shape[0] for shape in trt.called("IOptimizationProfile.set_shape")] == [
        "minus",
        "plus",
    ]
    for _name, *shapes in trt.called("IOptimizationProfile.set_shape"):
        assert shapes == [(1, 64, 96, 3)] * 3
    assert trt.called("IBuilderConfig.builder_optimization_level =") == [(4,)]
    assert trt.called("IBuilderConfig.set_memory_pool_limit") == [
        (trt.MemoryPoolType.WORKSPACE, 1 << 28)
    ]
    assert not trt.called("IBuilderConfig.set_flag")  # no flag of any precision


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_fused", [False, True])
def test_an_fp16_engine_that_is_fp32_is_refused(version: str, is_fused: bool) -> None:
    """The network says half, the engine does float: rf-detr issue 1453."""
    text = inspection(version, "float32", is_fused=is_fused)
    trt: Any = FakeTensorRT(version, inspection=text)
    with pytest.raises(EngineError, match=r"claims fp16, but its kernels.*not used"):
        build_engine(
            trt, b"graph", build_options(can_run=True), on_progress=_no_progress
        )


def _no_progress(_phase: str, _done: int, _total: int) -> None:
    pass


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[2]])
@pytest.mark.parametrize(
    ("fails", "says", "words"),
    [
        ("builder", "", r"driver is missing or does not fit"),
        ("parse", "UInt8 here", r"node 3 'transpose_3' \(Transpose\): UInt8 here"),
        ("build", "Out of memory", r"256 MiB of workspace.*most often memory"),
        # How a shortage of memory reads: wyoming-whisper-trt issue 1049.
        ("build", "could not find any implementation for node conv", "add swap"),
        ("build", "odd", r"could not build the engine: odd"),
        ("load", "magicTag", r"cannot load the engine it has built: magicTag"),
    ],
)
def test_what_tensorrt_refuses_without_raising_is_an_error(
    version: str, fails: str, says: str, words: str
) -> None:
    trt: Any = FakeTensorRT(version, fails=fails, says=says)
    with pytest.raises(EngineError, match=words):
        build_engine(
            trt, b"graph", build_options(can_run=True), on_progress=_no_progress
        )


def test_a_graph_of_another_fixed_size_is_refused() -> None:
    trt: Any = FakeTensorRT(VERSIONS[0], shape=(1, 128, 128, 3))
    with pytest.raises(EngineError, match=r"fixed to \(1, 128, 128, 3\).*1x64x96"):
        build_engine(trt, b"graph", build_options(), on_progress=_no_progress)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "no layers"),
        ('{"Layers": [], "Bindings": ["minus"]}', "no details"),
        ('{"Layers": ["conv"], "Bindings": ["minus"]}', "no details"),  # names only
        ('{"Layers": [], "Bindings": ["other"]}', "lists"),
    ],
)
def test_an_inspection_that_tells_nothing_is_refused(text: str, words: str) -> None:
    claim = Claim(precision="fp16")
    with pytest.raises(EngineError, match=words):
        audit_inspection(text, claim, ["minus"], where="engine")
