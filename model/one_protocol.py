"""Networks trained alike and judged on the same pairs: one protocol, one table.

    python -m bifocus.model.one_protocol examples/training/protocol.yaml --out alike

Each network is trained by `bifocus.model.train` from the same patches, with the same
seed and steps, into a folder of its own; an interrupted run goes on. What is compared
is the last checkpoint of each, not its best: nobody chooses.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from bifocus.config_model import Model, parse_model
from bifocus.errors import BifocusError, ConfigError
from bifocus.model.checkpoint import load_checkpoint
from bifocus.model.network_cost import compute_cost
from bifocus.model.network_registry import build_network
from bifocus.model.text_table import Table
from bifocus.model.train import run_training
from bifocus.model.train_config import TrainConfig
from bifocus.model.training_folder import describe_training
from bifocus.whole_file import write_whole

logger = logging.getLogger(__name__)

# One tile pair of the instruments that network.md states costs for.
_TILE_PX = (1024, 1224)


class Protocol(Model):
    """Networks by the name that the table gives them, and how all of them are trained.

    A network is a name of `bifocus.model.network_registry` or a change of one:
    ``{network: unet, overrides: {base: 16}}``. `training` is a training file without
    `network` and `overrides`.
    """

    networks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    training: dict[str, Any]

    def make_configs(self) -> dict[str, TrainConfig]:
        """Return the training of each network.

        Raises
        ------
        ConfigError
            If a network is unknown, or the training file is wrong.
        """
        configs = {}
        for name, change in self.networks.items():
            document = {"network": name, **change, **self.training}
            configs[name] = parse_model(TrainConfig, document, source=name)
            build_network(configs[name].network, **configs[name].overrides)
        return configs


def load_protocol(path: Path) -> Protocol:
    """Read and check a protocol.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, or breaks the schema.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot read the protocol: {' '.join(str(error).split())}"
        raise ConfigError(msg) from error
    return parse_model(Protocol, document, source=str(path))


def run_protocol(protocol: Protocol, folder: Path) -> dict[str, Any]:
    """Train every network, or finish its training, and return what came of it.

    Returns
    -------
    dict
        `training`, which all have had, and `networks`: cost, seconds of training and
        validation scores by name; plain JSON values.
    """
    results, configs = {}, protocol.make_configs()
    for name, config in configs.items():
        logger.info("training %s", name)
        run_training(config, folder / name)
        results[name] = _read_result(folder / name / "last.safetensors")
    training = describe_training(next(iter(configs.values())))
    del training["network"], training["overrides"]
    return {"training": training, "networks": results}


def make_table(document: Mapping[str, Any]) -> Table:
    """Return the comparison as a table; gains are over the sharper shot."""
    training = document["training"]
    rows = []
    for name, result in document["networks"].items():
        scores = result["validation"]
        kinds = scores["by_imaging"]
        rows.append(
            (
                name,
                f"{result['params'] / 1e6:.2f}",
                f"{result['gmac']:.1f}",
                f"{result['elapsed_s']:.0f}",
                *(f"{kinds[kind]['gain_over_sharper_db']:+.2f}" for kind in kinds),
                f"{scores['gain_over_physics_db']:+.2f}",
                f"{100 * scores['harm_rate']:.1f} %",
            )
        )
    steps = next(iter(document["networks"].values()))["step"]
    return Table(
        title="Networks under one protocol",
        header=(
            *("network", "params, M", "GMAC", "training, s"),
            *(f"gain {kind}, dB" for kind in kinds),
            *("over its image, dB", "harm"),
        ),
        rows=tuple(rows),
        note=(
            f"{steps} steps of {training['batch']} x {training['crop_px']} px each, "
            f"the same patches in the same order, seed {training['seed']}; "
            f"{scores['n']} pairs of validation slides. GMAC of one pair of "
            f"{_TILE_PX[1]}x{_TILE_PX[0]} px."
        ),
    )


def _read_result(path: Path) -> dict[str, Any]:
    loaded = load_checkpoint(path)
    cost = compute_cost(loaded.network, height_px=_TILE_PX[0], width_px=_TILE_PX[1])
    kept = ("step", "elapsed_s", "validation")
    return {
        "network": loaded.name,
        "params": cost.params,
        "gmac": cost.gmac,
        **{key: loaded.training[key] for key in kept},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a protocol, or print the table of one that was run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bifocus.model.one_protocol", description=__doc__
    )
    parser.add_argument("protocol", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        document = run_protocol(load_protocol(chosen.protocol), chosen.out)
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        write_whole(chosen.out / "protocol.json", text)
        write_whole(chosen.out / "protocol.md", make_table(document).to_markdown())
    except BifocusError as error:
        logger.error("%s", error)
        return error.exit_code
    sys.stdout.write(make_table(document).to_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
