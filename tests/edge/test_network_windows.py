"""Windows: their joined pixels are those of the whole picture, to the bit."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifocus.edge.network_inputs import NetworkForm
from bifocus.edge.network_windows import WindowPlan, plan_windows
from bifocus.errors import EngineError
from bifocus.records import UInt8Image

FORM = NetworkForm(
    network="tiny", inputs=("minus",), output="fused", stride_px=8, halo_px=24
)


def blurred(picture: UInt8Image, radius: int) -> UInt8Image:
    """Sum of the neighbourhood modulo 256, zero outside: sees exactly `radius` px."""
    padded = np.pad(picture.astype(np.int64), ((radius,) * 2, (radius,) * 2, (0, 0)))
    total = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
    side = 2 * radius + 1
    boxes = (
        total[side:, side:]
        - total[:-side, side:]
        - total[side:, :-side]
        + total[:-side, :-side]
    )
    sums: UInt8Image = (boxes % 256).astype(np.uint8)
    return sums


def run(plan: WindowPlan, picture: UInt8Image, radius: int) -> UInt8Image:
    def compute(
        windows: Iterator[Mapping[str, UInt8Image]],
    ) -> Iterator[UInt8Image]:
        for window in windows:
            assert window["minus"].shape == (*plan.size_px, 3)
            yield blurred(window["minus"], radius)

    shape = picture.shape[:2]
    return plan.join(compute(plan.cut({"minus": picture})), (shape[0], shape[1]))


def whole(picture: UInt8Image, stride: int, radius: int) -> UInt8Image:
    rows, columns = picture.shape[:2]
    padded = np.pad(
        picture, ((0, -rows % stride), (0, -columns % stride), (0, 0)), mode="edge"
    )
    return blurred(padded, radius)[:rows, :columns]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(64, 300),
    columns=st.integers(64, 300),
    stride=st.sampled_from([1, 2, 8, 16]),
    halo_steps=st.integers(0, 5),
    most=st.integers(2_000, 60_000),
)
def test_windows_give_the_pixels_of_the_whole(
    rows: int, columns: int, stride: int, halo_steps: int, most: int
) -> None:
    halo = stride * halo_steps
    form = replace(FORM, stride_px=stride, halo_px=halo)
    picture = np.random.default_rng(rows).integers(
        0, 256, (rows, columns, 3), dtype=np.uint8
    )
    plan = plan_windows(form, (rows, columns), most_window_px=most)
    for span in (*plan.rows, *plan.columns):
        assert span.start % stride == 0
    np.testing.assert_array_equal(
        run(plan, picture, halo), whole(picture, stride, halo)
    )


@pytest.mark.parametrize("size_px", [(128, 128), (96, 160), (200, 200)])
def test_a_graph_of_one_size_covers_a_larger_picture(size_px: tuple[int, int]) -> None:
    form = replace(FORM, size_px=size_px)
    picture = np.random.default_rng(1).integers(0, 256, (333, 291, 3), dtype=np.uint8)
    plan = plan_windows(form, (333, 291))
    assert plan.size_px == size_px
    np.testing.assert_array_equal(run(plan, picture, 24), whole(picture, 8, 24))


def test_a_halo_too_small_is_seen() -> None:
    """The check above can fail: one pixel less than the network sees."""
    picture = np.random.default_rng(2).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    plan = plan_windows(FORM, (200, 200), most_window_px=12_000)
    assert len(plan.rows) * len(plan.columns) > 1
    assert not np.array_equal(run(plan, picture, 40), whole(picture, 8, 40))


def test_a_full_frame_takes_two_windows() -> None:
    form = replace(FORM, halo_px=72)
    plan = plan_windows(form, (1024, 1224))
    assert (len(plan.rows), len(plan.columns)) == (1, 2)
    assert plan.size_px == (1024, 688)


@pytest.mark.parametrize(
    ("size_px", "reason"),
    [((128, 512), "at most 256 px"), ((40, 256), "more than 48"), ((100, 100), "of 8")],
)
def test_a_size_that_cannot_cover_names_the_legal_one(
    size_px: tuple[int, int], reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        plan_windows(replace(FORM, size_px=size_px), (256, 256))
