"""The examples of docs/cameras.md are instrument files that load."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from bifocus.camera_config import CameraConfig
from bifocus.config import Instrument
from bifocus.config_model import parse_model

GUIDE = (Path(__file__).parents[2] / "docs" / "cameras.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_an_example_loads(text: str, make_config: Any) -> None:
    document = make_config().model_dump() | yaml.safe_load(text)
    config = parse_model(Instrument, document, source="docs/cameras.md")
    assert config.camera.kind == yaml.safe_load(text)["camera"]["kind"]


def test_every_kind_has_its_row() -> None:
    (union, *_) = get_args(CameraConfig)
    kinds = {
        kind
        for model in get_args(union)
        for kind in get_args(model.model_fields["kind"].annotation)
    }
    assert len(kinds) == 7
    for kind in kinds:
        assert f"| `{kind}`" in GUIDE
