"""`bifocus train`, `evaluate` and `compare`: their wiring, and bad input."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.commands import run_cli
from tests.tissue import procedural_tissue

# Design, section 4.
KEYS = {
    *("all", "non_identity", "identity", "p10", "harm_rate", "gain_by_bin"),
    *("offset_mae_um", "ssim", "counts", "interval"),
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(2):
        light = procedural_tissue(420, seed)
        stored = np.rint(235 * np.clip(light, 0, 1)).astype(np.uint8)
        cv2.imwrite(str(folder / f"slide{seed}.png"), stored[..., ::-1])
    return folder


def test_evaluate_gives_the_keys_of_the_design(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    outcome = run_cli(
        *("evaluate", "--quick", "--no-baselines", "--json"),
        *("--data", pictures, "-o", out),
    )
    assert outcome.code == 0, outcome.err
    physics = outcome.document["models"]["physics"]
    assert set(physics) >= KEYS
    assert physics["all"] > outcome.document["models"]["sharper shot"]["all"]
    saved = json.loads((out / "results.json").read_text())
    assert saved["models"]["physics"]["all"] == physics["all"]


def test_evaluate_refuses_an_empty_folder(tmp_path: Path) -> None:
    assert run_cli("evaluate", "--data", tmp_path).fails(2, str(tmp_path))


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_missing_network_is_named(command: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "none.safetensors"
    outcome = run_cli(command, "--quick", "--model", path)
    assert outcome.code in (1, 2)
    assert outcome.fails(outcome.code, str(path))


def test_train_names_a_misspelt_key(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    config = tmp_path / "train.yaml"
    config.write_text("netwrok: base\n", encoding="utf-8")
    outcome = run_cli("train", config, "-o", tmp_path / "run")
    assert outcome.fails(2, str(config), "netwrok", "network")
