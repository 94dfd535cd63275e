"""One small instrument, its profile and its two-shot scan, made once."""

from pathlib import Path

import pytest

from tests.cli.commands import Outcome, run_cli, write_instrument


@pytest.fixture(scope="session")
def instrument(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_instrument(tmp_path_factory.mktemp("instrument") / "small.yaml")


@pytest.fixture(scope="session")
def calibrated(
    instrument: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Return the folder of the profile, and what the command said."""
    folder = tmp_path_factory.mktemp("calibration") / "new" / "folder"
    return folder, run_cli("calibrate", instrument, "-o", folder, "--json")


@pytest.fixture(scope="session")
def profile(calibrated: tuple[Path, Outcome]) -> Path:
    folder, outcome = calibrated
    assert outcome.code == 0, outcome.err
    return folder / "profile.yaml"


@pytest.fixture(scope="session")
def scanned(
    instrument: Path, profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """Return the scan folder, and what the command said."""
    folder = tmp_path_factory.mktemp("scan") / "slide1"
    outcome = run_cli("scan", instrument, "-o", folder, "--profile", profile, "--json")
    assert outcome.code == 0, outcome.err
    return folder, outcome
