"""A trained network as a method of evaluation: checkpoint in, picture out.

Images are given as in training: stored values / 255, in the order that the network
names (`bifocus.model.fusion_network.IMAGE_NAMES`), the physics image made by
`bifocus.physics_fusion` and with its fraction of a level, as engines get it. The only
file of evaluation that loads torch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.classical import fuse_together
from bifocus.model.evaluation_pair import EvaluationPair
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.network_cost import compute_cost
from bifocus.records import FloatImage, UInt8Image
from bifocus.sharpness import is_plus_sharper
from bifocus.tone import join_levels


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMethod:
    """A `Method` that runs a network on the CPU."""

    name: str
    network: FusionNetwork

    def __call__(self, pair: EvaluationPair) -> UInt8Image:
        """Return the fused picture, on the grid of the network's base image."""
        images = [
            torch.from_numpy(levels / np.float32(255)).permute(2, 0, 1)[None]
            for levels in levels_of(pair, self.network.inputs)
        ]
        with torch.inference_mode():
            fused = self.network(*images)[0].permute(1, 2, 0).numpy()
        return np.asarray(np.rint(255 * np.clip(fused, 0, 1)), dtype=np.uint8)

    def params_and_gmac(self, height_px: int, width_px: int) -> tuple[int, float]:
        """Return the trained numbers and the multiply-adds (10^9) of one tile."""
        cost = compute_cost(self.network, height_px=height_px, width_px=width_px)
        return cost.params, cost.gmac


def load_network_method(path: Path) -> NetworkMethod:
    """Return the network of a checkpoint, named after its place in the registry.

    Raises
    ------
    ConfigError, EngineError
        As `bifocus.model.checkpoint.load_checkpoint`.
    """
    loaded = load_checkpoint(path)
    return NetworkMethod(name=loaded.name, network=loaded.network)


def levels_of(pair: EvaluationPair, names: tuple[str, ...]) -> list[FloatImage]:
    """Return the levels, 0..255, of the images that a network asks for, in order."""
    is_plus = is_plus_sharper(pair.minus, pair.plus)
    pictures = {
        "minus": pair.minus,
        "plus": pair.plus,
        "sharper": pair.plus if is_plus else pair.minus,
        "other": pair.minus if is_plus else pair.plus,
    }
    levels = {name: pixels.astype(np.float32) for name, pixels in pictures.items()}
    if "physics" in names:
        fused = fuse_together(pair)
        levels["physics"] = join_levels(fused.pixels, fused.remainder())
    return [levels[name] for name in names]
