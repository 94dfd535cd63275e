"""How much a network gains on patches it never sees in training.

All numbers compare 8-bit results with the truth, a border left out: gain over the
sharper shot and over the physics image in dB, harm rate, and the worst defocus bin.
"""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.pair_mix import DEFOCUS_BINS_UM, REFERENCE_NA
from bifocus.model.patch_batches import PatchIndex, PatchSet

Float64 = npt.NDArray[np.float64]

_BORDER_PX = 8
# A tile counts as harmed from this loss against its sharper shot (network.md, 6).
_HARM_DB = 0.1
# Bins with fewer patches say nothing about the worst bin.
_LEAST_PER_BIN = 8
_SMALLEST_MSE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationScores:
    """Means over patches, in dB but for the shares; by image formation where named.

    `worst_bin_db` is the lowest mean gain over the physics image of any bin of defocus
    of the nearer shot.
    """

    n: int
    gain_over_sharper_db: float
    gain_over_physics_db: float
    physics_over_sharper_db: float
    harm_rate: float
    physics_harm_rate: float
    tenth_percentile_db: float
    worst_bin_db: float
    by_imaging: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)


@torch.no_grad()
def validate(
    network: FusionNetwork, patches: PatchSet, *, device: torch.device, batch: int = 8
) -> ValidationScores:
    """Score a network on all patches of a set, one size at a time.

    The network is left in evaluation mode.
    """
    network.eval()
    ordered = sorted(patches.patches, key=lambda patch: (patch.store, patch.number))
    fused_db: list[float] = []
    sharper_db: list[float] = []
    physics_db: list[float] = []
    for chunk in _chunks(ordered, batch):
        images = patches.read_whole(chunk)
        fused = network(*(images[name].to(device) for name in network.inputs)).cpu()
        truth = images["truth"]
        fused_db += compute_psnr_db(fused, truth)
        sharper_db += compute_psnr_db(images["sharper"], truth)
        physics_db += compute_psnr_db(images["physics"], truth)
    return _summarise(
        ordered, np.array(fused_db), np.array(sharper_db), np.array(physics_db)
    )


def compute_psnr_db(image: Tensor, truth: Tensor) -> list[float]:
    """Return the PSNR of each sample of (B, 3, H, W) in 0..1, rounded to 8 bits."""
    inside = (..., slice(_BORDER_PX, -_BORDER_PX), slice(_BORDER_PX, -_BORDER_PX))
    levels = image.clamp(0, 1).mul(255).round() - truth.mul(255).round()
    mse = levels[inside].square().mean(dim=(1, 2, 3)).clamp(min=_SMALLEST_MSE)
    decibels: list[float] = (10 * torch.log10(255**2 / mse)).tolist()
    return decibels


def _chunks(patches: list[PatchIndex], size: int) -> list[list[PatchIndex]]:
    """Cut into runs of at most `size` that never cross stores."""
    chunks: list[list[PatchIndex]] = []
    for patch in patches:
        if chunks and len(chunks[-1]) < size and chunks[-1][0].store == patch.store:
            chunks[-1].append(patch)
        else:
            chunks.append([patch])
    return chunks


def _summarise(
    patches: list[PatchIndex], fused: Float64, sharper: Float64, physics: Float64
) -> ValidationScores:
    gain, over_physics = fused - sharper, fused - physics
    defocus = np.array([_scaled_defocus_um(patch) for patch in patches])
    bins = np.digitize(defocus, DEFOCUS_BINS_UM[1:])
    per_bin = [
        float(over_physics[bins == number].mean())
        for number in np.unique(bins)
        if np.count_nonzero(bins == number) >= _LEAST_PER_BIN
    ]
    kinds = np.array([patch.imaging for patch in patches])
    by_imaging = {
        str(kind): {
            "n": float(np.count_nonzero(kinds == kind)),
            "gain_over_sharper_db": _mean(gain[kinds == kind]),
            "physics_over_sharper_db": _mean((physics - sharper)[kinds == kind]),
            "harm_rate": _mean((gain < -_HARM_DB)[kinds == kind]),
        }
        for kind in np.unique(kinds)
    }
    return ValidationScores(
        n=len(patches),
        gain_over_sharper_db=_mean(gain),
        gain_over_physics_db=_mean(over_physics),
        physics_over_sharper_db=_mean(physics - sharper),
        harm_rate=_mean(gain < -_HARM_DB),
        physics_harm_rate=_mean(physics - sharper < -_HARM_DB),
        tenth_percentile_db=float(np.percentile(fused, 10)),
        worst_bin_db=min(per_bin, default=float(over_physics.mean())),
        by_imaging=by_imaging,
    )


def _scaled_defocus_um(patch: PatchIndex) -> float:
    """Return the nearer shot's defocus as it would be at the reference NA."""
    return patch.spec.nearer_defocus_um * (patch.spec.na / REFERENCE_NA) ** 2


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return float(np.mean(values))
