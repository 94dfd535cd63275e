"""The gate: equal engines pass, and each way of being wrong is caught."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from bifocus.edge.network_inputs import NetworkForm
from bifocus.edge.parity_check import plan_check
from bifocus.errors import EngineError
from bifocus.export.parity import (
    TOLERANCES,
    Engine,
    Pictures,
    PictureSet,
    UInt8Batch,
    check_halo,
    measure_parity,
    require_parity,
    worst_report,
)
from bifocus.export.parity_pictures import (
    fit_pictures,
    make_test_pair,
    pack_test_pair,
    unpack_test_pair,
)
from bifocus.model.network_registry import build_network
from bifocus.model.receptive import halo_px

INPUTS = ("minus", "plus", "physics")
FP32 = TOLERANCES["fp32"]


def blend(pictures: Pictures) -> UInt8Batch:
    """Stand in for an engine: it tells its inputs, channels and neighbours apart."""
    minus, plus, physics = (pictures[name].astype(np.int16) for name in INPUTS)
    wide = np.roll(minus, 3, axis=1) + np.roll(minus, -3, axis=1)
    mixed = (2 * physics + wide + 3 * plus + 10 * np.arange(3)) // 7
    return np.clip(mixed, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def sets() -> list[PictureSet]:
    return make_test_pair(blend, INPUTS)


def judge(engine: Engine, pictures: PictureSet) -> bool:
    report = measure_parity(
        engine,
        pictures,
        subject="engine",
        against="blend",
        device="CPU",
        tolerance=FP32,
    )
    return report.passed


def test_an_equal_engine_passes() -> None:
    for pictures in sets():
        assert judge(blend, pictures)


def swapped(pictures: Pictures) -> UInt8Batch:
    turned = {**pictures, "minus": pictures["plus"], "plus": pictures["minus"]}
    return blend(turned)


def as_bgr(pictures: Pictures) -> UInt8Batch:
    turned = {name: batch[..., ::-1] for name, batch in pictures.items()}
    return np.ascontiguousarray(blend(turned)[..., ::-1])


def transposed(pictures: Pictures) -> UInt8Batch:
    return np.ascontiguousarray(blend(pictures)[..., ::-1])


def off_by_two(pictures: Pictures) -> UInt8Batch:
    fused = blend(pictures)
    fused[0, 5, 5, 1] = np.clip(int(fused[0, 5, 5, 1]) + 2, 0, 255)
    fused[0, 5, 5, 1] -= 4 if fused[0, 5, 5, 1] == 255 else 0
    return fused


@pytest.mark.parametrize("wrong", [swapped, as_bgr, transposed, off_by_two])
def test_a_wrong_engine_fails(wrong: Callable[[Pictures], UInt8Batch]) -> None:
    assert not judge(wrong, sets()[0])


def test_the_numbers_are_those_of_their_definitions() -> None:
    pictures = sets()[0]

    def shifted(given: Pictures) -> UInt8Batch:
        fused = blend(given).copy()
        fused[:, :, ::2] ^= 1  # every other column differs by one level
        return fused

    report = measure_parity(
        shifted,
        pictures,
        subject="s",
        against="b",
        device="CPU",
        tolerance=TOLERANCES["fp16"],
    )
    share = np.ceil(pictures.fused.shape[2] / 2) / pictures.fused.shape[2]
    assert report.differing == pytest.approx(share)
    assert report.max == 1
    # The mean square is that share; 48.1308 is 20 log10 255.
    assert report.psnr_db == pytest.approx(48.1308 - 10 * np.log10(share), abs=1e-3)
    assert not report.passed
    equal = measure_parity(
        blend, pictures, subject="s", against="b", device="CPU", tolerance=FP32
    )
    assert equal.psnr_db == pytest.approx(
        48.1308 + 10 * np.log10(pictures.fused.size), abs=1e-3
    )
    assert worst_report([equal, report]) is report
    with pytest.raises(
        EngineError, match=rf"in {100 * share:.3g} % of the values.*1 levels"
    ):
        require_parity([equal, report], "base")
    with pytest.raises(EngineError, match="no parity check"):
        require_parity([], "base")


def test_nan_fails_even_where_the_bytes_agree() -> None:
    report = measure_parity(
        blend,
        sets()[0],
        subject="s",
        against="b",
        device="CPU",
        tolerance=FP32,
        count_nan=lambda _: 3,
    )
    assert (report.nan, report.passed) == (3, False)


def test_another_shape_or_type_is_an_error() -> None:
    wrongs: list[Any] = [lambda p: blend(p)[:, 1:], lambda p: np.float32(blend(p))]
    for wrong in wrongs:
        with pytest.raises(EngineError, match="expected uint8"):
            judge(wrong, sets()[0])


def turned(pictures: Pictures) -> dict[str, UInt8Batch]:
    return {name: batch.swapaxes(1, 2) for name, batch in pictures.items()}


def padded(given: Pictures) -> UInt8Batch:
    """Blend without np.roll's wrap-around: rows beyond the edge repeat."""
    border = ((0, 0), (3, 3), (0, 0), (0, 0))
    grown = {name: np.pad(one, border, "edge") for name, one in given.items()}
    return blend(grown)[:, 3:-3]


@pytest.mark.parametrize("is_wide", [True, False])
def test_a_halo_that_is_too_small_is_caught(is_wide: bool) -> None:
    """Along the longer side of the pictures, whichever that is."""
    pictures: Pictures = sets()[1].pictures
    engine = padded
    if is_wide:
        engine = lambda given: padded(turned(given)).swapaxes(1, 2)  # noqa: E731
    else:
        pictures = turned(pictures)
    check_halo(engine, pictures, halo_px=3, name="base")
    for too_small in (0, 2):
        with pytest.raises(EngineError, match="beyond its halo"):
            check_halo(engine, pictures, halo_px=too_small, name="base")
    with pytest.raises(EngineError, match="too small for a halo of 200"):
        check_halo(engine, pictures, halo_px=200, name="base")


def test_the_test_pair_survives_its_file_which_is_small() -> None:
    made = sets()
    content = pack_test_pair(made)
    assert len(content) < 150_000
    read = unpack_test_pair(content, "pair")
    assert [one.name for one in read] == ["test pair", "random pictures"]
    for before, after in zip(made, read, strict=True):
        np.testing.assert_array_equal(before.fused, after.fused)
        for name in INPUTS:
            np.testing.assert_array_equal(before.pictures[name], after.pictures[name])
    for damaged in (content[: len(content) // 2], b"", b"no zip"):
        with pytest.raises(EngineError, match="not a whole test pair"):
            unpack_test_pair(damaged, "pair")


@pytest.mark.parametrize("name", ["fast", "base", "large"])
def test_the_noise_is_cut_and_all_is_padded_for_each_of_our_networks(name: str) -> None:
    network = build_network(name)
    form = NetworkForm(
        network=name,
        inputs=INPUTS,
        output="fused",
        stride_px=network.stride,
        halo_px=halo_px(network),
    )
    sizes = [one.fused.shape[1:3] for one in sets()]
    assert all(side % network.stride for size in sizes for side in size)
    rows, columns = sizes[1]
    plan = plan_check(form, (rows, columns))
    assert len(plan.columns) > 1
    # A window's inner end is a cut through the picture, a halo away from what is kept.
    assert plan.size_px[1] < columns


def test_the_pictures_are_the_same_each_time_and_not_flat() -> None:
    first, second = sets(), make_test_pair(blend, INPUTS)
    for one, other in zip(first, second, strict=True):
        for name in INPUTS:
            np.testing.assert_array_equal(one.pictures[name], other.pictures[name])
            assert one.pictures[name].std() > 10
    assert not np.array_equal(first[0].pictures["minus"], first[0].pictures["plus"])


def test_pictures_are_cut_or_mirrored_to_a_size() -> None:
    row = np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1).repeat(3, 3).repeat(2, 1)
    (wide,) = fit_pictures({"a": row}, (2, 7)).values()
    assert wide[0, 0, :, 0].tolist() == [0, 1, 2, 3, 3, 2, 1]
    (narrow,) = fit_pictures({"a": row}, (1, 2)).values()
    assert narrow.shape == (1, 1, 2, 3)
