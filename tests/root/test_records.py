"""Records: frozen, in physical order, and never holding what would move glass wrong."""

import dataclasses
import inspect
import math

import numpy as np
import pytest

from bifocus import records
from bifocus.errors import ConfigError
from bifocus.records import FocusPair, Frame, StagePosition, TileVisit

HERE = StagePosition(x_um=1.0, y_um=-2.0, z_um=3.0)
RECORDS = [
    value
    for _, value in inspect.getmembers(records, inspect.isclass)
    if value.__module__ == records.__name__
]


def a_frame(height: int = 4, width: int = 6) -> Frame:
    return Frame(
        pixels=np.zeros((height, width, 3), np.uint8),
        exposure_start_s=0.0,
        exposure_end_s=0.01,
        pose=HERE,
        sequence_number=1,
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_frozen_slotted_and_keyword_only(record: type) -> None:
    assert dataclasses.is_dataclass(record)
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(record)
    assert all(field.kw_only for field in dataclasses.fields(record))


@pytest.mark.parametrize("axis", ["x_um", "y_um", "z_um"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_position_is_finite(axis: str, value: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        dataclasses.replace(HERE, **{axis: value})


def test_a_position_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HERE.z_um = 5.0  # type: ignore[misc]


def test_tile_names_sort_as_the_grid_does() -> None:
    visits = [
        TileVisit(row=row, column=column, target=HERE)
        for row in (0, 9, 10, 99)
        for column in (0, 9, 10, 99)
    ]
    names = [visit.name for visit in visits]
    assert names == sorted(names)
    assert names[0] == "r000_c000"


def test_a_pair_needs_two_shots_of_one_size() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 6, 3\) and \(4, 7, 3\)"):
        FocusPair(
            minus=a_frame(),
            plus=a_frame(width=7),
            focus_um=0.0,
            half_spacing_um=0.75,
        )


@pytest.mark.parametrize("half_spacing_um", [0.0, -0.75, math.nan, math.inf])
def test_the_half_spacing_is_positive_and_finite(half_spacing_um: float) -> None:
    with pytest.raises(ConfigError, match="half_spacing_um must be positive"):
        FocusPair(
            minus=a_frame(),
            plus=a_frame(),
            focus_um=0.0,
            half_spacing_um=half_spacing_um,
        )
