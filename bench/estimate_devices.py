"""Expected times of the networks on devices we do not have: estimates, not measured.

    python bench/estimate_devices.py

prints a Markdown table for docs/jetson.md. Each convolution takes the longer of its
operations at a share of the device's dense float16 rate and its bytes at a share of its
memory's rate (`gpu_networks.roofline`), plus a fixed cost of launching. The shares span
what published timings of similar networks reach: 20 to 45 % of the operations, 60 to
80 % of the bytes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.gpu_networks import roofline
from bench.gpu_timing import Ceiling
from bifocus.model.network_registry import build_network

TILE_PX = (1024, 1224)
NETWORKS = ("fast", "base", "large", "tsva")
# Dense float16 TFLOP/s and GB/s of the data sheets, at the stated power mode.
DEVICES = {
    "Orin Nano 8 GB, 15 W": (10, 68),
    "Orin Nano Super, 25 W": (17, 102),
    "Orin NX 16 GB": (15, 102),
    "AGX Orin 64 GB": (43, 205),
    "GeForce RTX 4060": (60, 272),
}
BEST, WORST = (0.45, 0.8), (0.2, 0.6)
LAUNCH_MS = 0.2


def main() -> None:
    """Print the table."""
    print(f"| ms per {TILE_PX[1]}x{TILE_PX[0]} tile | " + " | ".join(NETWORKS) + " |")
    print("|---|" + "---|" * len(NETWORKS))
    for name, (tflop_per_s, gb_per_s) in DEVICES.items():
        cells = []
        for network in NETWORKS:
            ends = [
                1000 * _seconds(network, flops * tflop_per_s, bytes_ * gb_per_s)
                + LAUNCH_MS
                for flops, bytes_ in (BEST, WORST)
            ]
            cells.append(" to ".join(f"{float(f'{end:.2g}'):g}" for end in ends))
        print(f"| {name} | " + " | ".join(cells) + " |")


def _seconds(network: str, tflop_per_s: float, gb_per_s: float) -> float:
    ceiling = Ceiling(flop_per_s=1e12 * tflop_per_s, byte_per_s=1e9 * gb_per_s)
    return roofline(build_network(network), TILE_PX, ceiling)[0]


if __name__ == "__main__":
    main()
