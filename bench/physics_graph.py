"""The physics fusion as a graph beside NumPy: how equal, how fast.

    python bench/physics_graph.py [--pairs 60] [--no-speed]

Prints the table of docs/decisions/0007: parity on the frozen evaluation set, and
CPU-seconds of a 1224x1024x3 pair on one thread in NumPy, OpenVINO and ONNX Runtime, for
colours apart and together.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino

from bifocus.block_fusion import Colours
from bifocus.export.whole_fusion import build_physics_parts, finish_physics
from bifocus.focal_offset import PairOptics
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.model.evaluation_set import TILE_PX, default_textures, frozen_set
from bifocus.optics_inputs import transfer_inputs
from bifocus.pair_spectra import layout_for
from bifocus.physics_fusion import (
    fuse_measured,
    fuse_two_shots,
    measure_pair,
)
from bifocus.transfer import INCOHERENT

UInt8 = npt.NDArray[np.uint8]

FRAME = (1024, 1224)
RUNS = 5
# What the graph's parts call NumPy's two pictures.
PICTURES: dict[Colours, str] = {"apart": "physics", "together": "joint"}


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60, help="of each condition")
    parser.add_argument("--no-speed", action="store_true")
    given = parser.parse_args()
    print_parity(given.pairs)
    if not given.no_speed:
        print_speed()


def print_parity(n_pairs: int) -> None:
    """Compare the graph in ONNX Runtime with NumPy on the frozen set."""
    parts = build_physics_parts((TILE_PX, TILE_PX))
    session = open_session(parts.SerializeToString())
    textures, tissue = default_textures()
    psnr: dict[Colours, list[float]] = {kind: [] for kind in PICTURES}
    gain: dict[Colours, list[float]] = {kind: [] for kind in PICTURES}
    offset_um = []
    for pair in frozen_set(textures, n_pairs):
        measured = measure_pair(pair.minus, pair.plus, pair.optics)
        feeds = graph_feeds(pair.minus, pair.plus, measured.optics)
        *pictures, got_um = session.run([*PICTURES.values(), "offset_um"], feeds)
        for kind, picture in zip(PICTURES, pictures, strict=True):
            expected = fuse_measured(measured, colours=kind).pixels
            fused = np.asarray(picture[0], dtype=np.uint8)
            psnr[kind].append(psnr_db(fused, expected))
            gain[kind].append(
                psnr_db(fused, pair.truth) - psnr_db(expected, pair.truth)
            )
        offset_um.append(abs(float(got_um) - measured.offsets.tile.offset_um))
    print(f"{len(offset_um)} pairs, {tissue}; the graph against NumPy:")
    for kind in PICTURES:
        mean, least = np.mean(psnr[kind]), min(psnr[kind])
        away, worst = np.mean(gain[kind]), max(gain[kind], key=abs)
        print(f"  colours {kind}")
        print(f"    PSNR to its picture   mean {mean:.1f}, least {least:.1f} dB")
        print(f"    difference of gain    mean {away:+.4f}, worst {worst:+.3f} dB")
    print(f"  difference of offset    worst {max(offset_um):.4f} um")


def print_speed() -> None:
    """Time one full frame; only CPU time is worth comparing on a shared machine."""
    light = make_procedural_tissue(*FRAME)
    minus = np.asarray(np.rint(235 * np.clip(light, 0, 1)), dtype=np.uint8)
    plus = np.roll(minus, 1, axis=0)
    optics = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75, light=INCOHERENT)
    feeds = graph_feeds(minus, plus, optics)
    parts = build_physics_parts(FRAME)
    print(f"{FRAME[1]}x{FRAME[0]}x3, one thread, least of {RUNS} runs:")
    for kind in PICTURES:
        content = finish_physics(parts, colours=kind).SerializeToString()
        session, request = open_session(content), open_request(content)
        works: dict[str, Callable[[], object]] = {
            "NumPy": partial(fuse_two_shots, minus, plus, optics, colours=kind),
            "graph, OpenVINO": partial(request.infer, feeds),
            "graph, ONNX Runtime": partial(session.run, None, feeds),
        }
        for name, work in works.items():
            print(f"  {kind:8s} {name:20s} {cpu_s(work):.3f} CPU-s")


def graph_feeds(minus: UInt8, plus: UInt8, optics: PairOptics) -> dict[str, Any]:
    """Return the graph's inputs."""
    block_px = layout_for((minus.shape[0], minus.shape[1])).block_px
    return {
        "minus": minus[None],
        "plus": plus[None],
        **transfer_inputs(optics, block_px),
    }


def open_session(content: bytes) -> Any:
    """Return a session on one thread that does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )


def open_request(content: bytes) -> Any:
    """Return a request to OpenVINO, on one thread."""
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(content), "CPU", options)
    return model.create_infer_request()


def psnr_db(image: UInt8, truth: UInt8) -> float:
    """Return the PSNR of all pixels; equal pictures count as 138 dB."""
    error = np.mean((image.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def cpu_s(work: Callable[[], object]) -> float:
    """Return the least process CPU time of several runs, after one not counted."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
