"""Checkpoints rebuild their network, and refuse what is damaged or another's."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bifocus import __version__
from bifocus.errors import ConfigError, EngineError, SlideFileError
from bifocus.model.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from bifocus.model.fusion_network import FusionNetwork
from bifocus.model.network_registry import build_network

SMALL: dict[str, Any] = {"widths": [8, 16], "blocks": [1, 1]}
TRAINING = {"data_hash": "ab12", "step": 1200, "loss": 0.25, "slides": ["CMU-1"]}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def network() -> FusionNetwork:
    network = build_network("base", **SMALL)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network


@pytest.fixture
def path(tmp_path: Path, network: FusionNetwork) -> Path:
    path = tmp_path / "runs" / "base.safetensors"
    save_checkpoint(path, network, name="base", config=SMALL, training=TRAINING)
    return path


def test_a_file_rebuilds_its_network(path: Path, network: FusionNetwork) -> None:
    loaded = load_checkpoint(path)
    assert (loaded.name, loaded.training) == ("base", TRAINING)
    assert loaded.code_version == __version__
    assert loaded.network.config == network.config
    assert not loaded.network.training
    again = build_network(loaded.name, **loaded.config)
    again.load_state_dict(loaded.network.state_dict())
    images = [torch.rand(1, 3, 40, 40) for _ in network.inputs]
    assert torch.equal(loaded.network(*images), network(*images))
    assert torch.equal(again(*images), network(*images))


def test_batch_norm_statistics_survive(tmp_path: Path) -> None:
    network = build_network("tsva", base=2, reading="A")
    images = [torch.rand(1, 3, 48, 48) for _ in network.inputs]
    network(*images)
    path = tmp_path / "tsva.safetensors"
    config = {"base": 2, "reading": "A"}
    save_checkpoint(path, network, name="tsva", config=config, training={})
    loaded = load_checkpoint(path).network
    assert torch.equal(loaded(*images), network.eval()(*images))


def test_half_precision_is_half_the_size(path: Path, network: FusionNetwork) -> None:
    half = path.with_name("half.safetensors")
    save_checkpoint(
        half, network, name="base", config=SMALL, training=TRAINING, half=True
    )
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded = load_checkpoint(half).network
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    for stored, weight in zip(
        loaded.parameters(), network.parameters(), strict=True
    ):  # float16 has 11 significant bits
        torch.testing.assert_close(stored, weight, rtol=2**-11, atol=1e-7)


def test_metadata_is_readable_without_this_program(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["bifocus"])
    assert document["format"] == FORMAT
    assert document["network"] == "base"
    assert document["training"]["data_hash"] == "ab12"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_not_saved_and_the_last_good_file_stays(
    path: Path, network: FusionNetwork, bad: float
) -> None:
    before = path.read_bytes()
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = bad
    with pytest.raises(EngineError, match=r"NaN or infinity, first encoder\.stem"):
        save_checkpoint(path, network, name="base", config=SMALL, training={})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_overflow_of_half_precision_is_refused(
    path: Path, network: FusionNetwork
) -> None:
    with torch.no_grad():
        next(network.parameters())[0, 0, 0, 0] = 1e5  # float16 ends at 65504
    with pytest.raises(EngineError, match="infinity"):
        save_checkpoint(
            path, network, name="base", config=SMALL, training={}, half=True
        )


def test_a_failed_write_keeps_the_last_good_file(
    path: Path, network: FusionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(SlideFileError, match="No space left"):
        save_checkpoint(path, network, name="base", config=SMALL, training={})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_wrong_description_is_not_saved(
    tmp_path: Path, network: FusionNetwork
) -> None:
    with pytest.raises(ConfigError, match="but the network is"):
        save_checkpoint(tmp_path / "x", network, name="base", config={}, training={})
    with pytest.raises(ConfigError, match="JSON"):
        save_checkpoint(
            tmp_path / "x", network, name="base", config=SMALL, training={"a": {1}}
        )


def test_damaged_and_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EngineError, match="not a whole safetensors"):
        load_checkpoint(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    with pytest.raises(ConfigError, match="has format None"):
        load_checkpoint(foreign)
    pickled = tmp_path / "pickled.pt"
    torch.save({"weight": torch.zeros(1)}, pickled)
    with pytest.raises(EngineError, match="not a whole safetensors"):
        load_checkpoint(pickled)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "other"}, "there is no network 'other'"),
        ({"config": {"depth": 3}}, "has no depth"),
        ({"config": {}}, "does not fit its own network"),
    ],
)
def test_another_architecture_is_refused(
    path: Path, change: dict[str, Any], words: str
) -> None:
    _rewrite(path, change)
    with pytest.raises((ConfigError, EngineError), match=words):
        load_checkpoint(path)


def test_missing_and_infinite_weights_are_refused(path: Path) -> None:
    _rewrite(path, {}, drop="decoder.head.bias")
    with pytest.raises(EngineError, match=r"1 weights missing.*decoder\.head\.bias"):
        load_checkpoint(path)
    _rewrite(path, {}, value=math.nan)
    with pytest.raises(EngineError, match="hold NaN"):
        load_checkpoint(path)


def _rewrite(
    path: Path, change: dict[str, Any], *, drop: str = "", value: float | None = None
) -> None:
    with safe_open(path, framework="pt") as file:
        document = {**json.loads(file.metadata()["bifocus"]), **change}
        names = [name for name in file.keys() if name != drop]
        tensors = {name: file.get_tensor(name) for name in names}
    if value is not None:
        tensors["decoder.head.weight"].fill_(value)
    save_file(tensors, path, {"bifocus": json.dumps(document)})
