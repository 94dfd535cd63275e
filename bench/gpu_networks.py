"""Each network in half precision: pixels against float32, time, and roofline."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.gpu_timing import Ceiling, graphed, is_graph, percentiles_ms, run_times_s
from bifocus.export.pixel_network import PixelNetwork
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.network_registry import NETWORKS, build_network

NAMES = tuple(NETWORKS)
# Correction of a trained network to its base image, in 0..1: 5 % of the range.
_CORRECTION = 0.05
_HALF_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large and how long the measurements are."""

    tile_px: tuple[int, int]
    parity_px: tuple[int, int]
    count: int


def check_network(
    name: str, device: torch.device, ceiling: Ceiling, scale: Scale
) -> dict[str, Any]:
    """Return parity, times and share of the roofline of one network.

    Weights are random, with the head scaled to a trained network's corrections: what
    is checked is arithmetic and speed, not quality.
    """
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    network = calm_head(build_network(name))
    figures: dict[str, Any] = parity(network, device, scale)
    module = half_network(network, device)
    images = pictures(len(module.inputs), scale.tile_px, device)
    with torch.no_grad():
        replay = graphed(lambda: module(*images), device)
        times_s = run_times_s(replay, device, count=scale.count)
    figures |= percentiles_ms(times_s)
    roofline_s, flop = roofline(network, scale.tile_px, ceiling)
    p50_s = figures["p50_ms"] / 1000
    return figures | {
        "is_graph": is_graph(replay),
        "gmac": flop / 2e9,
        "roofline_ms": 1000 * roofline_s,
        "roofline_share": roofline_s / p50_s,
        "matmul_share": flop / ceiling.flop_per_s / p50_s,
    }


def calm_head(network: FusionNetwork) -> FusionNetwork:
    """Scale the last convolution so that corrections are as a trained network's."""
    parts: Any = network
    head: nn.Conv2d = getattr(parts, "decoder", parts).head
    with torch.no_grad():
        nn.init.normal_(head.weight, std=0.01)
        images = [torch.rand(1, 3, 64, 64) for _ in network.inputs]
        network.eval()
        spread = network.compute(images).std()
        head.weight.mul_(_CORRECTION / spread)
    return network


def parity(
    network: FusionNetwork, device: torch.device, scale: Scale
) -> dict[str, float]:
    """Return how far half precision on the device is from float32 on the processor."""
    exact = PixelNetwork(network)
    images = pictures(len(exact.inputs), scale.parity_px, torch.device("cpu"))
    half = half_network(network, device)
    with torch.no_grad():
        expected = exact(*images).numpy()
        found = half(*(image.to(device) for image in images)).cpu().numpy()
    return compare(found, expected)


def compare(found: Any, expected: Any) -> dict[str, float]:
    """Return the greatest difference in grey levels, the shares that differ, PSNR.

    `differing` counts values, `differing_px` pixels of which any colour differs.
    `psnr_db` is left out where nothing differs.
    """
    difference = np.abs(found.astype(np.int16) - expected.astype(np.int16))
    figures = {
        "max": float(difference.max()),
        "differing": float(np.mean(difference > 0)),
        "differing_px": float(np.mean((difference > 0).any(axis=-1))),
    }
    if difference.any():
        mean_square = float(np.mean(difference.astype(np.float64) ** 2))
        figures["psnr_db"] = 10 * float(np.log10(255**2 / mean_square))
    return figures


def half_network(network: FusionNetwork, device: torch.device) -> PixelNetwork:
    """Return the network from bytes to bytes with its core in float16, on `device`."""
    module: Any = PixelNetwork(network, is_half=True).to(device)
    # Bytes come with their colours side by side, and so do tensor cores want them.
    half: PixelNetwork = module.to(memory_format=torch.channels_last).eval()
    return half


def pictures(
    count: int, size_px: tuple[int, int], device: torch.device
) -> list[Tensor]:
    """Return pictures with the smooth spectrum of tissue, uint8 (1, H, W, 3)."""
    random = np.random.default_rng(0)
    rows, columns = size_px
    made = []
    for _ in range(count):
        coarse = torch.from_numpy(random.random((1, 3, rows // 8, columns // 8)))
        smooth = nn.functional.interpolate(coarse, size=size_px, mode="bicubic")
        levels = 255 * smooth + 4 * torch.from_numpy(random.normal(size=smooth.shape))
        picture = levels.round().clamp(0, 255).to(torch.uint8)
        made.append(picture.permute(0, 2, 3, 1).contiguous().to(device))
    return made


def roofline(
    network: FusionNetwork, size_px: tuple[int, int], ceiling: Ceiling
) -> tuple[float, float]:
    """Return the least seconds of all convolutions of one tile, and their operations.

    Each convolution is bound by the measured products or by the measured bytes,
    whichever takes longer; its input, weights and output cross the memory once, in
    half precision. Activations and additions count as fused, and cost nothing.
    """
    total_s = total_flop = 0.0
    calls: list[tuple[float, float]] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            flop = 2.0 * output[0, 0].numel() * module.weight.numel()
            moved = inputs[0].numel() + module.weight.numel() + output.numel()
            calls.append((flop, float(_HALF_BYTES * moved)))

    shapes = copy.deepcopy(network).to("meta").eval()
    for part in shapes.modules():
        part.register_forward_hook(note)
    image = torch.empty(1, 3, *size_px, device="meta")
    with torch.no_grad():
        shapes(*[image] * len(network.inputs))
    for flop, moved in calls:
        total_s += max(flop / ceiling.flop_per_s, moved / ceiling.byte_per_s)
        total_flop += flop
    return total_s, total_flop
