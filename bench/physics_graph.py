"""The physics fusion as a graph beside NumPy: how equal, how fast.

    python bench/physics_graph.py [--pairs 60] [--no-speed]

Prints the table of docs/decisions/0007: parity on the frozen evaluation set, and
CPU-seconds of a 1224x1024x3 pair on one thread in NumPy, OpenVINO and ONNX Runtime.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino

from bifocus.export.whole_fusion import build_physics_parts, finish_physics
from bifocus.focal_offset import PairOptics
from bifocus.hal.procedural_tissue import make_procedural_tissue
from bifocus.model.evaluation_set import TILE_PX, default_textures, frozen_set
from bifocus.optics_inputs import transfer_inputs
from bifocus.pair_spectra import layout_for
from bifocus.physics_fusion import fuse_measured, fuse_two_shots, measure_pair
from bifocus.transfer import INCOHERENT

UInt8 = npt.NDArray[np.uint8]

FRAME = (1024, 1224)
RUNS = 5


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
    session = open_session(graph_bytes((TILE_PX, TILE_PX)))
    textures, tissue = default_textures()
    psnr, gain, offset_um = [], [], []
    for pair in frozen_set(textures, n_pairs):
        measured = measure_pair(pair.minus, pair.plus, pair.optics)
        expected = fuse_measured(measured)
        feeds = graph_feeds(pair.minus, pair.plus, measured.optics)
        fused, got_um = session.run(["physics", "offset_um"], feeds)
        psnr.append(psnr_db(fused[0], expected.pixels))
        gain.append(
            psnr_db(fused[0], pair.truth) - psnr_db(expected.pixels, pair.truth)
        )
        offset_um.append(abs(float(got_um) - expected.offset.offset_um))
    print(f"{len(psnr)} pairs, {tissue}; the graph against NumPy:")
    print(f"  PSNR to its picture   mean {np.mean(psnr):.1f}, least {min(psnr):.1f} dB")
    worst = max(gain, key=abs)
    print(f"  difference of gain    mean {np.mean(gain):+.4f}, worst {worst:+.3f} dB")
    print(f"  difference of offset  worst {max(offset_um):.4f} um")


def print_speed() -> None:
    """Time one full frame; only CPU time is worth comparing on a shared machine."""
    light = make_procedural_tissue(*FRAME)
    minus = np.asarray(np.rint(235 * np.clip(light, 0, 1)), dtype=np.uint8)
    plus = np.roll(minus, 1, axis=0)
    optics = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75, light=INCOHERENT)
    feeds = graph_feeds(minus, plus, optics)
    content = graph_bytes(FRAME)
    session = open_session(content)
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(
        core.read_model(content), "CPU", options
    ).create_infer_request()
    print(f"{FRAME[1]}x{FRAME[0]}x3, one thread, least of {RUNS} runs:")
    for name, work in {
        "NumPy": lambda: fuse_two_shots(minus, plus, optics),
        "graph, OpenVINO": lambda: request.infer(feeds),
        "graph, ONNX Runtime": lambda: session.run(None, feeds),
    }.items():
        print(f"  {name:20s} {cpu_s(work):.3f} CPU-s")


def graph_bytes(shape: tuple[int, int]) -> bytes:
    """Return the physics graph of one size."""
    content: bytes = finish_physics(build_physics_parts(shape)).SerializeToString()
    return content


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
