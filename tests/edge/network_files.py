"""A small network as an exported file, made without torch, and pairs for it.

Nine channels in, one downsampling, a residual to the physics image: all that windows,
halo, stride and channel order can go wrong with.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bifocus.engine_manifest import (
    EngineManifest,
    TensorSpec,
    TrainedRanges,
    manifest_path,
    write_manifest,
)
from bifocus.focal_offset import PairOptics
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.records import UInt8Image
from tests.imaging import MATCHED, shoot_incoherent
from tests.tissue import procedural_tissue

OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75)
INPUTS = ("minus", "plus", "physics")
STRIDE_PX = 2
# By hand: 1 + 1 at full size, 2 at half size (1 * 2), 1 for the last, and 1 more for
# where an element of the coarser grid lies: 6 px, rounded up to a multiple of 2.
HALO_PX = 6


@lru_cache(maxsize=4)
def measured_pair(side_px: int = 160) -> MeasuredPair:
    shots = shoot_incoherent(
        procedural_tissue(side_px, 3), 0.5, 0.75, MATCHED, np.random.default_rng(0)
    )
    return measure_pair(shots.minus, shots.plus, OPTICS)


def random_pictures(shape: tuple[int, int], seed: int = 0) -> dict[str, UInt8Image]:
    random = np.random.default_rng(seed)
    return {
        name: random.integers(0, 256, (*shape, 3), dtype=np.uint8) for name in INPUTS
    }


def make_graph(seed: int = 0, gain: float = 0.3, size: Any = ("N", "H", "W")) -> bytes:
    """Return the ONNX bytes; `gain` scales the correction to the physics image."""
    random = np.random.default_rng(seed)
    constants: dict[str, Any] = {
        "level": np.float32(1 / 255),
        "full": np.float32(255),
        "half": np.float32(0.5),
        "low": np.float32(0),
        "high": np.float32(255),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    shapes = {"stem": (8, 9), "down": (12, 8), "deep": (12, 12), "head": (3, 12)}
    for name, (out, into) in shapes.items():
        weights = random.standard_normal((out, into, 3, 3)) / np.sqrt(9 * into)
        constants[name] = (weights * (gain if name == "head" else 1.5)).astype(
            "float32"
        )
    nodes = []
    for name in INPUTS:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT),
            helper.make_node(
                "Transpose", [f"{name}_f"], [f"{name}_t"], perm=[0, 3, 1, 2]
            ),
            helper.make_node("Mul", [f"{name}_t", "level"], [f"{name}_01"]),
        ]
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes += [
        helper.make_node("Concat", [f"{name}_01" for name in INPUTS], ["x"], axis=1),
        helper.make_node("Conv", ["x", "stem"], ["a"], **pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "down"], ["c"], strides=[2, 2], **pads),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "deep"], ["e"], **pads),
        helper.make_node(
            "Resize",
            ["e", "", "scales"],
            ["f"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Conv", ["f", "head"], ["g"], **pads),
        helper.make_node("Add", ["g", "physics_01"], ["h"]),
        helper.make_node("Mul", ["h", "full"], ["i"]),
        helper.make_node("Add", ["i", "half"], ["j"]),
        helper.make_node("Clip", ["j", "low", "high"], ["k"]),
        helper.make_node("Transpose", ["k"], ["l"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["l"], ["fused"], to=TensorProto.UINT8),
    ]
    picture = [*size, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.UINT8, picture) for n in INPUTS],
        [helper.make_tensor_value_info("fused", TensorProto.UINT8, picture)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_manifest(content: bytes, name: str = "tiny.onnx", **changes: Any) -> Any:
    picture = {"dtype": "uint8", "layout": "NHWC"}
    values: dict[str, Any] = {
        "files": {name: hashlib.sha256(content).hexdigest()},
        "network": "tiny",
        "config": "{}",
        "kind": "onnx",
        "precision": "fp32",
        "inputs": tuple(TensorSpec(name=n, **picture) for n in INPUTS),  # type: ignore[arg-type]
        "outputs": (TensorSpec(name="fused", **picture),),  # type: ignore[arg-type]
        "batch": None,
        "height_px": None,
        "width_px": None,
        "stride_px": STRIDE_PX,
        "halo_px": HALO_PX,
        "physics": "input",
        "trained": TrainedRanges(
            na=(0.4, 0.95),
            half_spacing_um=(0.4, 1.2),
            pixel_um=(0.16, 0.3),
            reference_na=0.75,
        ),
        "source": "tiny.safetensors",
        "source_sha256": "0" * 64,
        "data_hashes": ("ab12",),
        "bifocus_version": "0.1.0",
        "opset": 18,
        "test_pair": None,
        "parity": (),
        "verified": True,
        **changes,
    }
    return EngineManifest(**values)


def write_network(
    folder: Path,
    name: str = "tiny.onnx",
    *,
    content: bytes | None = None,
    **changes: Any,
) -> Path:
    """Write the graph and its manifest; changes are of the manifest."""
    content = make_graph() if content is None else content
    path = folder / name
    path.write_bytes(content)
    write_manifest(make_manifest(content, name, **changes), manifest_path(path))
    return path


def run_whole(content: bytes, pictures: dict[str, UInt8Image]) -> UInt8Image:
    """Run the graph on whole pictures with a session of the test's own."""
    feeds = {name: pictures[name][None] for name in INPUTS}
    return np.asarray(_session(content).run(None, feeds)[0][0], dtype=np.uint8)


@lru_cache(maxsize=8)
def _session(content: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
