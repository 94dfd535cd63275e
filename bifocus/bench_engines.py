"""Speed and memory of whole fusions, one for each engine that runs here.

Each is measured in a process of its own, for its own peak memory, in the way of a
scan: the light is known, and a graph with physics inside reads the pair itself. The
paper's network is the yardstick: random weights cost what trained ones do. It takes
gigabytes for a full frame, so that a quarter of one is run once, and scaled by its
pixels.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bifocus.bench_rows import FRAME_SHAPE, Row, make_frame, peak_mb, time_work
from bifocus.config import EngineName, Optics
from bifocus.edge.cpu_threads import count_threads
from bifocus.edge.engine_chain import EngineChain
from bifocus.edge.engine_choice import (
    EngineWish,
    choose_fuser,
    engines_of,
    model_files,
)
from bifocus.edge.fusers import PHYSICS_FUSERS, WholePair
from bifocus.edge.pair_meter import PairMeter
from bifocus.engine_manifest import load_manifest, manifest_path
from bifocus.errors import EngineError
from bifocus.records import FusedTile, UInt8Image
from bifocus.transfer import INCOHERENT

OPTICS = Optics(na=0.75, pixel_um=0.25)
HALF_SPACING_UM = 0.75
NAME = "fuse 1224x1024x3"
START = "from a new process to a ready engine"
# A quarter of a frame, in multiples of the paper's stride of 16.
_QUARTER = (512, 608)


def bench_fusers(model: str = "auto") -> list[Row]:
    """Return a row for physics, each file and engine of the model, and the yardstick.

    Raises
    ------
    EngineError
        If a model that was named runs on no engine here, or a measurement fails.
    """
    rows = [row for name in PHYSICS_FUSERS for row in _measured_apart(name, "physics")]
    n_physics = len(rows)
    reasons: list[str] = []
    for path in model_files(model):
        for engine in engines_of(path):
            if engine == "server":
                continue  # its time is another machine's
            try:
                rows += _measured_apart(str(path), engine)
            except EngineError as error:
                reasons.append(str(error))
                sys.stderr.write(f"{engine}, {path.name}: not measured: {error}\n")
    if reasons and len(rows) == n_physics and model != "auto":
        raise EngineError("; ".join(reasons))
    if not _has_exporter():
        sys.stderr.write("tsva: not measured: needs pip install 'bifocus[train]'\n")
        return rows
    (yardstick,) = _measured_apart("tsva", "onnxruntime")
    return [
        row
        if row.name == START
        else replace(row, ratio_to_tsva=yardstick.cpu_s / row.cpu_s)
        for row in (*rows, yardstick)
    ]


def measure_fusion(model: str, engine: EngineName) -> list[Row]:
    """Time the start of this process, and the whole fusion of one full frame in it."""
    wish = EngineWish(engine="auto" if model in PHYSICS_FUSERS else engine)
    with closing(choose_fuser(model, wish)) as fuser:
        name = model if model in PHYSICS_FUSERS else Path(model).name
        start = Row(
            name=START,
            engine=f"{name}, {fuser.engine}",
            cpu_s=time.process_time(),
            wall_s=_age_s(),
            peak_mb=peak_mb(),
            unit="start",
        )
        frame = make_frame()
        other = np.roll(frame, 1, axis=0)
        meter = PairMeter(OPTICS, HALF_SPACING_UM, None, fuser)
        meter.optics = dataclasses.replace(meter.optics, light=INCOHERENT)
        row = time_work(
            NAME,
            start.engine,
            lambda: _fuse_as_a_scan(fuser, meter, frame, other),
            unit="tile",
        )
    gmac = None if model in PHYSICS_FUSERS else _gmac(Path(model))
    return [replace(row, gmac=gmac), start]


def _fuse_as_a_scan(
    fuser: EngineChain, meter: PairMeter, minus: UInt8Image, plus: UInt8Image
) -> FusedTile:
    pair = meter.read(minus, plus)
    return pair.tile if isinstance(pair, WholePair) else fuser.fuse(pair)


def _age_s() -> float:
    """Return how long this process has been there; field 22 of proc(5)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(") ")[2]
    started_s = int(fields.split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def measure_tsva() -> Row:
    """Run the paper's network on a quarter of a frame, once, in ONNX Runtime."""
    import onnxruntime

    content, inputs, gmac = _tsva_graph()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = count_threads()
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    rows, columns = _QUARTER
    feeds = dict.fromkeys(inputs, make_frame()[None, :rows, :columns])
    start_cpu_s, start_s = time.process_time(), time.perf_counter()
    session.run(None, feeds)
    cpu_s, wall_s = time.process_time() - start_cpu_s, time.perf_counter() - start_s
    scale = FRAME_SHAPE[0] * FRAME_SHAPE[1] / (rows * columns)
    return Row(
        name=f"tsva, {columns}x{rows}x3 once, times {scale:.2f}",
        engine=f"onnxruntime {onnxruntime.__version__}, CPU",
        cpu_s=cpu_s * scale,
        wall_s=wall_s * scale,
        peak_mb=peak_mb(),
        gmac=gmac,
        unit="tile",
    )


def _tsva_graph() -> tuple[bytes, tuple[str, ...], float]:
    """Return the graph with random weights, its inputs, and what a frame costs."""
    from bifocus.export.pixel_graph import trace_pictures
    from bifocus.export.pixel_network import PixelNetwork
    from bifocus.model.network_cost import compute_cost
    from bifocus.model.network_registry import build_network

    network = build_network("tsva").eval()
    height_px, width_px = FRAME_SHAPE
    width_px = -(-width_px // network.stride) * network.stride
    cost = compute_cost(network, height_px=height_px, width_px=width_px)
    module = PixelNetwork(network)
    model = trace_pictures(module, module.inputs, size_px=_QUARTER)
    return model.SerializeToString(), module.inputs, cost.gmac


def _gmac(path: Path) -> float | None:
    """Return the network's multiply-adds for a full frame; None if that is not known.

    Halos are not counted: engines differ in how they cut the frame.
    """
    if not manifest_path(path).is_file() or not _has_exporter():
        return None
    from bifocus.model.network_cost import compute_cost
    from bifocus.model.network_registry import build_network

    manifest = load_manifest(path)
    network = build_network(manifest.network, **json.loads(manifest.config))
    height_px, width_px = FRAME_SHAPE
    return compute_cost(network, height_px=height_px, width_px=width_px).gmac


def _has_exporter() -> bool:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def _measured_apart(model: str, engine: EngineName) -> list[Row]:
    """Return the rows that a fresh process measures.

    Raises
    ------
    EngineError
        With the last line it printed, if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "bifocus.bench_engines", model, engine],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        reason = lines[-1].removeprefix("bifocus.errors.EngineError: ")
        raise EngineError(reason)
    return [Row(**row) for row in json.loads(done.stdout)]


def _main(arguments: Sequence[str]) -> None:
    model, engine = arguments
    names: dict[str, Any] = {name: name for name in get_args(EngineName)}
    is_tsva = model == "tsva"
    rows = [measure_tsva()] if is_tsva else measure_fusion(model, names[engine])
    sys.stdout.write(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    _main(sys.argv[1:])
