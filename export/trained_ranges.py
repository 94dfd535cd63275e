"""The instruments that a checkpoint's network has seen, for its manifest."""

from collections.abc import Mapping
from typing import Any

from bifocus.engine_manifest import TrainedRanges
from bifocus.model.pair_mix import NOMINAL_WAVELENGTHS_UM, REFERENCE_NA, TRAINING_MIX


def read_ranges(training: Mapping[str, Any]) -> TrainedRanges | None:
    """Return the ranges of the mix that `bifocus train` draws from; None if unknown.

    Parameters
    ----------
    training
        What the checkpoint kept. Only `bifocus train` writes its configuration there;
        a checkpoint without one may come from anywhere.
    """
    if "config" not in training:
        return None
    mix = TRAINING_MIX
    resolution_um = NOMINAL_WAVELENGTHS_UM[1] / (2 * REFERENCE_NA)
    smallest, largest = (share * resolution_um for share in mix.pixel_share)
    return TrainedRanges(
        na=mix.na,
        half_spacing_um=mix.half_spacing_um,
        pixel_um=(smallest, largest),
        reference_na=REFERENCE_NA,
    )
