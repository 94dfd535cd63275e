"""`bifocus init`: a commented file that loads, and never over another."""

import errno
import os
from pathlib import Path

import pytest

from bifocus.config import load_instrument
from tests.cli.commands import run_cli


def test_the_file_is_commented_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "scanner.yaml"
    outcome = run_cli("init", path, "--stage", "virtual", "--camera", "virtual")
    assert outcome.code == 0
    assert outcome.out == f"wrote {path}; next: bifocus plan {path}\n"
    assert path.read_text().count("#") > 20
    assert load_instrument(path).is_simulated
    assert run_cli("plan", path).code == 0


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scanner.yaml"
    path.write_text("mine")
    assert run_cli("init", path).fails(2, f"{path}: exists already", "another name")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("option", ["--stage", "--camera"])
def test_other_kinds_are_refused(tmp_path: Path, option: str) -> None:
    path = tmp_path / "scanner.yaml"
    assert run_cli("init", path, option, "grbl").fails(2, f"{option} grbl", "virtual")
    assert not path.exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "scanner.yaml"
    assert run_cli("init", path).fails(1, str(path), "Not a directory")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    path = tmp_path / "scanner.yaml"
    assert run_cli("init", path).fails(1, str(path), "No space left on device")
    assert not list(tmp_path.iterdir())
