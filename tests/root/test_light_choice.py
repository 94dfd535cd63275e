"""The light read from pairs, against a simulation that sums fields over a condenser."""

import dataclasses
from functools import lru_cache

import numpy as np
import pytest

from bifocus.focal_offset import PairOptics
from bifocus.light_choice import choose_light, light_evidence
from bifocus.physics_fusion import MeasuredPair, measure_pair
from bifocus.transfer import INCOHERENT
from tests.imaging import (
    HARSH,
    MATCHED,
    RenderedPair,
    Scope,
    shoot_incoherent,
    shoot_partially_coherent,
)
from tests.tissue import procedural_tissue

OPTICS = PairOptics(na=0.75, pixel_um=0.25, half_spacing_um=0.75)
OFFSETS_UM = (-1.2, -0.4, 0.5, 1.3)
LIT = dataclasses.replace(HARSH, condenser=0.6, object_phase_rad=0.15)


@lru_cache(maxsize=16)
def shoot(offset_um: float, scope: Scope | None) -> RenderedPair:
    rng = np.random.default_rng(4)
    tissue = procedural_tissue(224, round(10 * abs(offset_um)))
    if scope is None:
        return shoot_incoherent(tissue, offset_um, 0.75, MATCHED, rng)
    return shoot_partially_coherent(tissue, offset_um, 0.75, scope, rng)


def measure(offset_um: float, scope: Scope | None, told: bool) -> MeasuredPair:
    pair = shoot(offset_um, scope)
    optics = dataclasses.replace(OPTICS, light=INCOHERENT) if told else OPTICS
    return measure_pair(pair.minus, pair.plus, optics)


def test_some_tiles_together_tell_the_condenser() -> None:
    measured = [measure(offset_um, LIT, told=True) for offset_um in OFFSETS_UM]
    evidence = [light_evidence(pair.spectra) for pair in measured]
    light = choose_light(evidence, OPTICS, measured[0].spectra.layout.block_px)
    assert light.condenser == pytest.approx(0.6, abs=0.1)
    assert light.phase_ratio > 0
    assert light.pupil == "exact"


def test_incoherent_light_is_recognised() -> None:
    measured = [measure(offset_um, None, told=True) for offset_um in OFFSETS_UM]
    evidence = [light_evidence(pair.spectra) for pair in measured]
    block_px = measured[0].spectra.layout.block_px
    assert choose_light(evidence, OPTICS, block_px).condenser == 1


def test_the_right_light_halves_the_error_of_the_offset() -> None:
    errors_um = {
        told: np.mean(
            [
                abs(measure(offset_um, LIT, told).offsets.tile.offset_um - offset_um)
                for offset_um in OFFSETS_UM
            ]
        )
        for told in (False, True)
    }
    assert errors_um[False] < 0.5 * errors_um[True]
    assert errors_um[False] < 0.15
