"""The focus surface: planes come back, outliers do not bend it, memory is bounded."""

import numpy as np
import numpy.typing as npt
import pytest

from bifocus.edge import focus_tracking
from bifocus.edge.focus_tracking import FocusTracker

STEP_UM = 100.0


def plane_um(x_um: float, y_um: float) -> float:
    return 20.0 + 3e-3 * x_um - 2e-3 * y_um


def scan(
    tracker: FocusTracker,
    n_rows: int,
    n_columns: int,
    noise_um: float = 0.0,
    outliers: frozenset[tuple[int, int]] = frozenset(),
) -> list[float]:
    """Visit a serpentine, teach, and return the errors of the predictions."""
    rng = np.random.default_rng(4)
    errors_um = []
    for row in range(n_rows):
        columns = range(n_columns) if row % 2 == 0 else reversed(range(n_columns))
        for column in columns:
            x_um, y_um = STEP_UM * column, STEP_UM * row
            errors_um.append(tracker.predict_um(x_um, y_um) - plane_um(x_um, y_um))
            seen_um = plane_um(x_um, y_um) + rng.normal(0, noise_um or 1e-9)
            if (row, column) in outliers:
                seen_um += 5.0
            tracker.add(x_um, y_um, seen_um, 0.1)
    return errors_um


@pytest.mark.parametrize("place_um", [(0.0, 0.0), (300.0, -50.0), (9000.0, 9000.0)])
def test_the_first_prediction_is_the_calibration(
    place_um: tuple[float, float],
) -> None:
    tracker = FocusTracker((300.0, -50.0, 12.5), STEP_UM)
    assert tracker.predict_um(*place_um) == pytest.approx(12.5)
    assert tracker.n_measured == 0


def test_a_tilted_plane_is_learned_from_noisy_offsets() -> None:
    tracker = FocusTracker((0.0, 0.0, 20.0), STEP_UM)
    errors_um = np.array(scan(tracker, 8, 10, noise_um=0.1))
    # After two rows both slopes are known; the noise of a tile is 0.1 um.
    assert np.abs(errors_um[20:]).mean() < 0.1
    found = tracker.fit_plane()
    assert found.slope_x_mrad == pytest.approx(3.0, abs=0.15)
    assert found.slope_y_mrad == pytest.approx(-2.0, abs=0.15)
    assert found.height_um(450.0, 350.0) == pytest.approx(
        plane_um(450.0, 350.0), abs=0.05
    )
    assert tracker.n_measured == 80


def test_the_fixed_focus_of_the_same_slide_would_be_lost() -> None:
    """What tracking is for: 9 tiles further the plane is 2.7 um away."""
    assert plane_um(900.0, 0.0) - plane_um(0.0, 0.0) == pytest.approx(2.7)
    tracker = FocusTracker((0.0, 0.0, 20.0), STEP_UM)
    assert max(np.abs(scan(tracker, 1, 10))) < 0.5


def test_outliers_do_not_bend_the_surface() -> None:
    """One tile in ten lies 5 um off, as under a fold."""
    rng = np.random.default_rng(9)
    cells = rng.permutation(80)[:8]
    outliers = frozenset((int(c) // 10, int(c) % 10) for c in cells)
    tracker = FocusTracker((0.0, 0.0, 20.0), STEP_UM)
    errors_um = np.abs(scan(tracker, 8, 10, noise_um=0.1, outliers=outliers))
    assert float(np.median(errors_um[20:])) < 0.15
    assert tracker.fit_plane().slope_x_mrad == pytest.approx(3.0, abs=0.3)


def test_a_sure_tile_counts_more_than_an_unsure_one() -> None:
    tracker = FocusTracker((0.0, 0.0, 10.0), STEP_UM)
    tracker.add(0.0, 0.0, 10.0, 0.05)
    tracker.add(0.0, 0.0, 10.4, 2.0)
    assert tracker.predict_um(0.0, 0.0) == pytest.approx(10.0, abs=0.02)


def test_a_bent_surface_is_followed_locally() -> None:
    """A bow of 4 um over 2 mm, which no single plane fits."""
    tracker = FocusTracker((0.0, 0.0, 0.0), STEP_UM)
    errors_um = []
    for number in range(21):
        x_um = STEP_UM * number
        height_um = 4.0 * np.sin(np.pi * x_um / 2000)
        errors_um.append(tracker.predict_um(x_um, 0.0) - height_um)
        tracker.add(x_um, 0.0, height_um, 0.05)
    assert max(np.abs(errors_um[3:])) < 1.2  # well inside the two-shot range
    assert abs(tracker.fit_plane().slope_x_mrad) < 1.0


def test_the_fit_does_not_grow_with_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = focus_tracking._robust_plane

    def counted(
        away_um: npt.NDArray[np.float64],
        height_um: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64],
    ) -> tuple[float, npt.NDArray[np.float64]]:
        sizes.append(len(away_um))
        return plain(away_um, height_um, weight)

    monkeypatch.setattr(focus_tracking, "_robust_plane", counted)
    tracker = FocusTracker((0.0, 0.0, 20.0), STEP_UM)
    for number in range(5000):
        row, column = divmod(number, 100)
        x_um, y_um = STEP_UM * column, STEP_UM * row
        tracker.add(x_um, y_um, plane_um(x_um, y_um), 0.1)
        if number % 50 == 0:
            tracker.predict_um(x_um + STEP_UM, y_um)
    assert tracker.n_measured == 5000
    assert len(sizes) == 100  # one fit a prediction
    assert max(sizes) <= 64
    # The nearest tiles are enough.
    assert tracker.predict_um(5050.0, 2550.0) == pytest.approx(
        plane_um(5050.0, 2550.0), abs=0.01
    )
