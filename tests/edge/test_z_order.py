"""When a serpentine in z pays, and that it brings home the same pairs."""

from typing import Any

import pytest

from bifocus.edge.capture import Microscope
from bifocus.edge.z_order import is_serpentine_faster
from tests.scanner import CENTRE_UM, RecordingStage, open_scanner, scanner_config

# No play, and z slower than the way to the next tile.
SLOW_Z = {"take_up_um": (6.0, 6.0, 0.0), "speed_um_per_s": (2e3, 2e3, 5.0)}
# Play in z, which is quicker than the way to the next tile.
PLAY = {"take_up_um": (6.0, 6.0, 10.0)}


def test_the_file_may_decide() -> None:
    for order in ("up", "serpentine"):
        config = scanner_config(scan={"z_order": order})
        assert is_serpentine_faster(config) == (order == "serpentine")


def test_it_pays_where_z_is_slow_and_not_where_it_has_play() -> None:
    assert is_serpentine_faster(scanner_config(stage=SLOW_Z))
    assert not is_serpentine_faster(scanner_config(stage=PLAY))


@pytest.mark.parametrize("is_z_serpentine", [False, True])
def test_pairs_come_home_in_physical_order(is_z_serpentine: bool) -> None:
    with open_scanner(scanner_config(stage=SLOW_Z)) as instrument:
        stage = RecordingStage(instrument.stage)
        microscope = Microscope(
            stage,
            instrument.camera,
            instrument.clock,
            is_z_serpentine=is_z_serpentine,
        )
        pairs = [microscope.shoot_pair(*CENTRE_UM, 150.0, 0.75) for _ in range(4)]
    ups = [target.z_um for target in stage.targets]
    low, high = 149.25, 150.75
    turned = [low, high, high, low]
    assert ups == (2 * turned if is_z_serpentine else 4 * [low, high])
    for pair in pairs:
        assert pair.minus.pose.z_um == pytest.approx(low, abs=0.05)
        assert pair.plus.pose.z_um == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize(("stage", "pays"), [(SLOW_Z, True), (PLAY, False)])
def test_the_choice_is_what_a_scanned_row_shows(
    stage: dict[str, Any], pays: bool
) -> None:
    """A row on a slide that rises by 60 nm a tile, driven on the instrument itself."""
    taken_s = []
    for is_z_serpentine in (False, True):
        with open_scanner(scanner_config(stage=stage)) as instrument:
            microscope = Microscope(
                instrument.stage,
                instrument.camera,
                instrument.clock,
                is_z_serpentine=is_z_serpentine,
            )
            microscope.approach(400.0, 400.0, 149.25)
            for column in (*range(8), *reversed(range(8))):
                focus_um = 150.0 + 0.06 * column
                microscope.shoot_pair(400.0 + 20 * column, 400.0, focus_um, 0.75)
            taken_s.append(microscope.waits.stage_s)
    assert (taken_s[1] < 0.99 * taken_s[0]) == pays
