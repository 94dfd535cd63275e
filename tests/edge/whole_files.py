"""A whole fusion as an exported file, made without torch: each output tells one input.

Its pixels are 0.25 minus + dD plus, its offset the mean of the transfer table, and so
on, so that a table that is missing, old or in another's place shows.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bifocus.engine_manifest import TensorSpec
from bifocus.export.whole_pair import WholeSet, onnx_whole_run
from bifocus.focal_offset import PairOptics
from bifocus.optics_inputs import table_shapes, transfer_inputs
from bifocus.pair_spectra import SMALL_BLOCKS
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.records import UInt8Image
from bifocus.transfer import INCOHERENT
from tests.edge.network_files import write_network
from tests.imaging import MATCHED, shoot_incoherent
from tests.tissue import procedural_tissue

SIZE_PX = (64, 80)  # rows, columns
OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75, light=INCOHERENT)
WIDER = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.9, light=INCOHERENT)
NUMBERS = (
    "offset_um",
    "sd_um",
    "confidence",
    "quality",
    "sharper_is_plus",
    "clearest",
    "shift_px",
)
TABLES = ("transfer", "in_focus", "scale_um", "trust")


@lru_cache(maxsize=4)
def whole_pair(optics: PairOptics = OPTICS) -> MeasuredPair:
    shots = shoot_incoherent(
        procedural_tissue(96, 3), 0.5, 0.75, MATCHED, np.random.default_rng(0)
    )
    rows, columns = SIZE_PX
    minus, plus = (
        np.ascontiguousarray(shot[:rows, :columns])
        for shot in (shots.minus, shots.plus)
    )
    return measure_pair(minus, plus, optics)


def expected_fusion(measured: MeasuredPair) -> tuple[UInt8Image, dict[str, Any]]:
    """Return what the graph gives, by its definition."""
    tables = transfer_inputs(measured.optics, SMALL_BLOCKS.block_px)
    minus, plus = (shot.astype(np.float32) for shot in (measured.minus, measured.plus))
    scale = tables["scale_um"]
    levels = np.clip(np.float32(0.25) * minus + scale[1] * plus, 0, 255)
    return levels.astype(np.uint8), {
        "offset_um": tables["transfer"].mean(dtype=np.float64),
        "sd_um": tables["in_focus"].mean(dtype=np.float64),
        "confidence": scale[0],
        "quality": scale[2],
        "clearest": tables["trust"][0],
        "sharper_is_plus": plus.mean() > minus.mean(),
    }


@lru_cache(maxsize=1)
def make_whole_graph() -> bytes:
    constants: dict[str, Any] = {
        "quarter": np.float32(0.25),
        "low": np.float32(0),
        "high": np.float32(255),
        "0": np.int64(0),
        "1": np.int64(1),
        "2": np.int64(2),
        "01": np.array([0, 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["minus"], ["m"], to=TensorProto.FLOAT),
        node("Cast", ["plus"], ["p"], to=TensorProto.FLOAT),
        node("Gather", ["scale_um", "1"], ["spacing"]),
        node("Mul", ["m", "quarter"], ["mq"]),
        node("Mul", ["p", "spacing"], ["ps"]),
        node("Add", ["mq", "ps"], ["sum"]),
        node("Clip", ["sum", "low", "high"], ["levels"]),
        node("Cast", ["levels"], ["fused"], to=TensorProto.UINT8),
        node("ReduceMean", ["transfer"], ["offset_um"], keepdims=0),
        node("ReduceMean", ["in_focus"], ["sd_um"], keepdims=0),
        node("Gather", ["scale_um", "0"], ["confidence"]),
        node("Gather", ["scale_um", "2"], ["quality"]),
        node("ReduceMax", ["trust"], ["clearest"], keepdims=0),
        node("ReduceMean", ["m"], ["mean_m"], keepdims=0),
        node("ReduceMean", ["p"], ["mean_p"], keepdims=0),
        node("Greater", ["mean_p", "mean_m"], ["is_plus"]),
        node("Cast", ["is_plus"], ["sharper_is_plus"], to=TensorProto.FLOAT),
        node("Gather", ["scale_um", "01"], ["shift_px"]),
    ]
    info, shapes = helper.make_tensor_value_info, table_shapes(OPTICS, SIZE_PX)
    picture, byte, real = (1, *SIZE_PX, 3), TensorProto.UINT8, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "whole",
        [
            *(info(name, byte, picture) for name in ("minus", "plus")),
            *(info(name, real, shapes[name]) for name in TABLES),
        ],
        [
            info("fused", byte, picture),
            *(info(n, real, (2,) if n == "shift_px" else ()) for n in NUMBERS),
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def whole_manifest(**changes: Any) -> dict[str, Any]:
    """Return what the manifest of a whole fusion has other than a network's."""
    shapes = table_shapes(OPTICS, SIZE_PX)
    picture: Any = {"dtype": "uint8", "layout": "NHWC"}
    table: Any = {"dtype": "float32", "layout": "table"}
    number: Any = {"dtype": "float32", "layout": "number"}
    return {
        "physics": "inside",
        "batch": 1,
        "height_px": SIZE_PX[0],
        "width_px": SIZE_PX[1],
        "inputs": (
            *(TensorSpec(name=name, **picture) for name in ("minus", "plus")),
            *(TensorSpec(name=n, shape=shapes[n], **table) for n in TABLES),
        ),
        "outputs": (
            TensorSpec(name="fused", **picture),
            *(
                TensorSpec(name=n, shape=(2,) if n == "shift_px" else (), **number)
                for n in NUMBERS
            ),
        ),
        **changes,
    }


def write_whole(folder: Path, name: str = "tiny.whole.onnx", **changes: Any) -> Path:
    content = changes.pop("content", make_whole_graph())
    return write_network(folder, name, content=content, **whole_manifest(**changes))


def whole_set() -> WholeSet:
    """Return a test pair of the graph, as it travels with an export."""
    measured = whole_pair()
    shots = {"minus": measured.minus[None], "plus": measured.plus[None]}
    tables = transfer_inputs(measured.optics, SMALL_BLOCKS.block_px)
    fused, numbers = onnx_whole_run(make_whole_graph())({**shots, **tables})
    return WholeSet(
        name="test pair",
        shots=shots,
        tables=tables,
        fused=fused,
        offset_um=float(numbers["offset_um"]),
    )
