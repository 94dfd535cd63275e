"""One protocol for several networks: what they share, and what the table says."""

import json
from pathlib import Path

import pytest
import torch

from bifocus.errors import ConfigError
from bifocus.model import one_protocol
from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.one_protocol import Protocol, load_protocol, make_table, run_protocol
from bifocus.model.patch_store import StoreRequest, build_store
from tests.model.tissue_folder import make_tissue_folder

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("stores")
    make_tissue_folder(folder)
    train = StoreRequest(n=4, patch_px=48, margin_px=24, per_instrument=4)
    build_store(folder / "train", train, data_dir=folder)
    held = StoreRequest(
        n=2, patch_px=48, margin_px=24, split="validation", mix="evaluation-relief"
    )
    build_store(folder / "held", held, data_dir=folder)
    return folder


def make_protocol(stores: Path, **networks: object) -> Protocol:
    return Protocol.model_validate(
        {
            "networks": networks,
            "training": {
                "train_stores": [str(stores / "train")],
                "validation_stores": [str(stores / "held")],
                "steps": 2,
                "batch": 2,
                "crop_px": 32,
                "learning_rate": 1e-30,
                "device": "cpu",
                "threads": 1,
            },
        }
    )


def test_an_untrained_network_scores_what_its_residual_starts_from(
    stores: Path, tmp_path: Path
) -> None:
    """With a rate of nothing, base is the physics image, and one shot the sharper."""
    small = {"widths": [4, 4], "blocks": [0, 0]}
    protocol = make_protocol(
        stores,
        base={"overrides": small},
        single={"network": "base-one-shot", "overrides": small},
    )
    document = run_protocol(protocol, tmp_path)
    scores = {k: v["validation"] for k, v in document["networks"].items()}
    assert scores["base"]["gain_over_physics_db"] == pytest.approx(0, abs=1e-6)
    assert scores["single"]["gain_over_sharper_db"] == pytest.approx(0, abs=1e-6)
    assert str(stores) not in json.dumps(document)
    for name, result in document["networks"].items():
        kept = load_checkpoint(tmp_path / name / "last.safetensors").network
        assert result["params"] == sum(p.numel() for p in kept.parameters())
    table = make_table(document)
    assert [row[0] for row in table.rows] == ["base", "single"]
    assert table.rows[0][-2:] == ("+0.00", "0.0 %")
    assert "2 steps of 2 x 32 px" in table.note


def test_unknown_networks_are_refused_before_any_is_trained(
    stores: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="there is no network 'bass'"):
        run_protocol(make_protocol(stores, fast={}, bass={}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_example_names_networks_that_exist() -> None:
    protocol = load_protocol(EXAMPLES / "training" / "protocol.yaml")
    assert {"base", "tsva16"} <= set(protocol.make_configs())


def test_a_missing_file_exits_with_2(tmp_path: Path) -> None:
    missing = [str(tmp_path / "none.yaml"), "--out", str(tmp_path)]
    assert one_protocol.main(missing) == 2
