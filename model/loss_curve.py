"""The progress of a training: JSON lines on the disk, and one picture of them."""

import json
import logging
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # one JSON object: step, and loss or validation


def append_record(path: Path, record: Record) -> None:
    """Append one line; may raise OSError."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record, sort_keys=True) + "\n")


def read_records(path: Path) -> list[Record]:
    """Return all whole lines; a line cut off by a kill is left out."""
    records = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                logger.warning("%s: skipping a line that was cut off", path)
    return records


def trim_records(path: Path, last_step: int) -> None:
    """Drop what was logged after `last_step`: a resumed run writes it again."""
    if not path.exists():
        return
    kept = [record for record in read_records(path) if record["step"] <= last_step]
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(
        "".join(json.dumps(record, sort_keys=True) + "\n" for record in kept),
        encoding="utf-8",
    )
    partial.replace(path)


def draw_loss_curve(records: list[Record], path: Path, *, title: str) -> None:
    """Draw loss, and validation gains and harm rate, over steps, as a PNG."""
    losses = [record for record in records if "loss" in record]
    scores = [record for record in records if "validation" in record]
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot([r["step"] for r in losses], [r["loss"] for r in losses], linewidth=0.8)
    top.set_ylabel("training loss")
    top.set_title(title)
    steps = [record["step"] for record in scores]
    for key, label in (
        ("gain_over_sharper_db", "gain over the sharper shot (dB)"),
        ("gain_over_physics_db", "gain over physics (dB)"),
    ):
        values = [record["validation"][key] for record in scores]
        bottom.plot(steps, values, marker=".", label=label)
    harm = [10 * record["validation"]["harm_rate"] for record in scores]
    bottom.plot(steps, harm, linestyle=":", label="harm rate (10 %)")
    bottom.axhline(0, color="grey", linewidth=0.5)
    bottom.set_xlabel("step")
    bottom.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=100)
