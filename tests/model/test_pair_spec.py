"""Pair records: seeded, within their ranges, and back from JSON as they were."""

import dataclasses
import json

import numpy as np
import pytest

from bifocus.errors import ConfigError
from bifocus.model.pair_drawing import draw_instrument, draw_pair_spec
from bifocus.model.pair_mix import (
    EVALUATION_COHERENT,
    EVALUATION_RELIEF,
    TRAINING_MIX,
    PairMix,
)
from bifocus.model.pair_spec import (
    PairSpec,
    compute_layer_shares,
    compute_relief_um,
    pair_spec_from_json,
)


def draw(mix: PairMix, count: int, seed: int = 0) -> list[PairSpec]:
    rng = np.random.default_rng(seed)
    return [draw_pair_spec(mix, draw_instrument(mix, rng), rng) for _ in range(count)]


def test_same_seed_same_pairs() -> None:
    assert draw(TRAINING_MIX, 5, seed=3) == draw(TRAINING_MIX, 5, seed=3)
    assert draw(TRAINING_MIX, 5, seed=3) != draw(TRAINING_MIX, 5, seed=4)


def test_survives_json() -> None:
    for spec in draw(TRAINING_MIX, 20):
        assert pair_spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change", [{"surprise": 1}, {"na": float("nan")}, {"na": 1.2}, {"nominal": {}}]
)
def test_refuses_bad_records(change: dict[str, object]) -> None:
    document = draw(TRAINING_MIX, 1)[0].to_json() | change
    with pytest.raises(ConfigError):
        pair_spec_from_json(document)


def test_ranges_of_the_training_mix() -> None:
    specs = draw(TRAINING_MIX, 600)
    assert min(s.nominal.na for s in specs) >= 0.4
    assert max(s.nominal.na for s in specs) <= 0.95
    assert 0.4 < np.mean([s.nominal.na == 0.75 for s in specs]) < 0.6
    assert 0.4 < np.mean([s.imaging == "coherent" for s in specs]) < 0.6
    assert 0.25 < np.mean([s.jpeg_quality > 0 for s in specs]) < 0.42
    assert max(abs(v) for s in specs for v in s.shift_px) <= 0.5
    assert max(abs(s.gain - 1) for s in specs) <= 0.03
    assert min(s.full_well_e for s in specs) >= 8e3
    assert max(s.full_well_e for s in specs) <= 40e3
    identity = [s for s in specs if s.offset_kind == "identity"]
    assert 0.08 < len(identity) / len(specs) < 0.17
    # One shot lies in the plane of best focus exactly, and there is no relief.
    assert max(s.nearer_defocus_um for s in identity) < 1e-12
    assert {s.relief_um for s in identity} == {0.0}


def test_normal_offsets_follow_the_paper() -> None:
    mix = dataclasses.replace(EVALUATION_RELIEF, largest_offset_um=10.0)
    offsets = np.array([s.offset_um for s in draw(mix, 2000)])
    # Standard error of the mean 0.022, of the sd 0.016: four of them.
    assert abs(offsets.mean()) < 0.09
    assert abs(offsets.std() - 1) < 0.065


def test_flat_offsets_reach_every_defocus_bin() -> None:
    mix = dataclasses.replace(
        EVALUATION_RELIEF, flat_share=1.0, identity_share=0.0, largest_offset_um=9.0
    )
    defocus = np.array([s.nearer_defocus_um for s in draw(mix, 1000)])
    counts, _ = np.histogram(defocus, [0, 0.25, 0.5, 1.0, 1.5, 2.5])
    assert counts.min() > 150  # 200 expected, sd 13


def test_evaluation_leaves_the_training_ranges() -> None:
    assert EVALUATION_COHERENT.condenser_sigma[1] > TRAINING_MIX.condenser_sigma[1]
    assert EVALUATION_COHERENT.phase_rad[1] > TRAINING_MIX.phase_rad[1]
    assert EVALUATION_COHERENT.spherical_waves > TRAINING_MIX.spherical_waves


def test_relief_has_its_amplitude_and_is_seeded() -> None:
    spec = dataclasses.replace(draw(EVALUATION_RELIEF, 1)[0], relief_um=0.3)
    height = compute_relief_um(spec, (64, 80)) - spec.offset_um
    assert float(np.abs(height).max()) == pytest.approx(0.3, rel=1e-5)
    np.testing.assert_array_equal(
        compute_relief_um(spec, (64, 80)), compute_relief_um(spec, (64, 80))
    )


def test_layers_add_up_and_keep_the_mean_height() -> None:
    spec = dataclasses.replace(draw(EVALUATION_RELIEF, 1)[0], relief_um=0.4)
    height = compute_relief_um(spec, (48, 48))
    heights_um, shares = compute_layer_shares(height, 0.25)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    mean = np.tensordot(np.array(heights_um), shares, axes=1)
    np.testing.assert_allclose(mean, height, atol=1e-5)
    assert max(np.diff(heights_um)) <= 0.25 + 1e-9
