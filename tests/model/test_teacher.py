"""A teacher sees a batch turned, and its pictures come back as the batch lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bifocus.model.checkpoint import save_checkpoint
from bifocus.model.hybrid import HybridConfig, HybridNet
from bifocus.model.teacher import Teacher, turned, turned_back

TURNS = range(8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A network whose pictures depend on how the shots lie."""
    torch.manual_seed(3)
    network = HybridNet(HybridConfig(widths=(4, 4), blocks=(1, 1)))
    nn.init.normal_(network.decoder.head.weight, std=0.2)
    shape = {"widths": [4, 4], "blocks": [1, 1]}
    file = tmp_path / "teacher.safetensors"
    save_checkpoint(file, network, name="base", config=shape, training={})
    return file


def test_turning_back_undoes_each_of_eight_turns() -> None:
    images = torch.rand(2, 3, 8, 8)
    views = [turned(images, turn) for turn in TURNS]
    for turn, view in enumerate(views):
        assert torch.equal(turned_back(view, turn), images)
    distinct = {view.numpy().tobytes() for view in views}
    assert len(distinct) == 8


def test_its_picture_is_that_of_the_turned_shots(path: Path) -> None:
    """Against shots that numpy turned; unequal sides would show a wrong axis."""
    batch = {name: torch.rand(1, 3, 32, 40) for name in ("minus", "plus", "physics")}
    teacher = Teacher(path, torch.device("cpu"))
    pictures = [teacher.fuse(batch, turn=turn) for turn in TURNS]
    for turn, picture in enumerate(pictures):
        assert picture.shape == (1, 3, 32, 40)
        by_numpy = {
            name: np.rot90(images.numpy(), turn % 4, (2, 3))
            for name, images in batch.items()
        }
        if turn >= 4:
            by_numpy = {name: view[..., ::-1] for name, view in by_numpy.items()}
        view = {name: torch.from_numpy(v.copy()) for name, v in by_numpy.items()}
        seen = teacher.fuse(view).numpy()
        back = seen[..., ::-1] if turn >= 4 else seen
        back = np.rot90(back, -(turn % 4), (2, 3))
        np.testing.assert_allclose(picture.numpy(), back, atol=1e-6)
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-3)
