"""What a calibration run leaves on the disk, step by step, so that it can go on.

`OUT/steps/run.json` tells for what the run is and whether it has ended,
`OUT/steps/NAME.json` what step NAME found out, with pictures as PNG beside it. Each
file is written whole. A run that is replaced moves to `OUT/history/`.
"""

import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BeforeValidator

from bifocus.calib.step_result import Plot, Region, Series, StepResult
from bifocus.config_model import Finite, Model, NonNegative, parse_model
from bifocus.errors import CalibrationError, ConfigError, SlideFileError
from bifocus.records import Measured, UInt8Image
from bifocus.whole_file import write_whole


class Run(Model):
    """For what instrument, settings and place a run is, and whether it has ended."""

    version: Literal[1] = 1
    id: str
    identity: dict[str, str]
    config_sha256: str
    region_um: Region
    is_finished: bool = False

    def differences(self, other: "Run") -> list[str]:
        """Return in what two runs differ besides their id, for a person."""
        found = [
            f"{name}: {self.identity.get(name, '-')} / {other.identity.get(name, '-')}"
            for name in sorted({*self.identity, *other.identity})
            if self.identity.get(name) != other.identity.get(name)
        ]
        if self.config_sha256 != other.config_sha256:
            found.append("the instrument file has changed")
        if self.region_um != other.region_um:
            found.append(f"region: {self.region_um} / {other.region_um} um")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStep:
    """A step that has been measured, or left out for the reason `skipped`."""

    name: str
    measured_utc: str
    seconds: float
    result: StepResult | None = None
    skipped: str | None = None


class StepFiles:
    """The folder of one calibration; nothing is made before something is saved."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._steps = out / "steps"
        self._history = out / "history"

    def read_run(self) -> Run | None:
        """Return the run that the folder holds, if any.

        Raises
        ------
        ConfigError
            If its file is damaged.
        """
        path = self._steps / "run.json"
        document = _read_json(path)
        if document is None:
            return None
        return parse_model(Run, document, source=f"{path} (see --fresh)")

    def begin(self, run: Run) -> None:
        """Start a run; the one that was there before moves to `history/`.

        Raises
        ------
        SlideFileError
            If the disk refuses; the older run is left as it was.
        """
        try:
            if self._steps.exists():
                self._history.mkdir(parents=True, exist_ok=True)
                self._steps.rename(self._free_name())
            self._steps.mkdir(parents=True)
        except OSError as error:
            msg = f"{self._steps}: cannot start a run there: {error.strerror}"
            raise SlideFileError(msg) from error
        self.write_run(run)

    def write_run(self, run: Run) -> None:
        """Write what the run is, anew."""
        write_whole(self._steps / "run.json", run.model_dump_json(indent=2) + "\n")

    def save(self, step: FinishedStep, run: Run) -> FinishedStep:
        """Write a step, pictures first; return it as the files tell it.

        Raises
        ------
        CalibrationError
            If a value is no number.
        SlideFileError
            If the disk refuses; an older result of the step is kept.
        """
        names: dict[str, str] = {}
        pictures = step.result.pictures if step.result else {}
        for number, (title, picture) in enumerate(pictures.items()):
            names[title] = f"{step.name}-{number}.png"
            write_whole(self._steps / names[title], _as_png(picture))
        document = {
            "version": 1,
            "run": run.id,
            "name": step.name,
            "measured_utc": step.measured_utc,
            "seconds": step.seconds,
            "skipped": step.skipped,
            "result": _result_document(step.result, names) if step.result else None,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(self._steps / f"{step.name}.json", text + "\n")
        saved = self.load(step.name, run)
        assert saved is not None, f"{step.name}.json was written a moment ago"
        return saved

    def load(self, name: str, run: Run) -> FinishedStep | None:
        """Return a step of this run, or None if it has not been measured in it.

        Raises
        ------
        ConfigError
            If the file is damaged.
        """
        path = self._steps / f"{name}.json"
        document = _read_json(path)
        if document is None or document.get("run") != run.id:
            return None
        model = parse_model(_StepModel, document, source=f"{path} (see --fresh)")
        return FinishedStep(
            name=model.name,
            measured_utc=model.measured_utc,
            seconds=model.seconds,
            skipped=model.skipped,
            result=_as_result(model, self._steps) if model.result else None,
        )

    def load_all(self, names: Iterable[str], run: Run) -> dict[str, FinishedStep]:
        """Return the steps of this run that have been measured, by name."""
        found = {name: self.load(name, run) for name in names}
        return {name: step for name, step in found.items() if step is not None}

    def _free_name(self) -> Path:
        number = 1
        while (path := self._history / f"steps-{number}").exists():
            number += 1
        return path


def measured_document(measured: Measured) -> dict[str, Any]:
    """Return a value as every JSON of calibration tells it.

    Examples
    --------
    >>> measured_document(Measured(value=1.0, standard_uncertainty=0.1, method="x"))
    {'value': 1.0, 'u': 0.1, 'unit': 'um', 'how': 'x'}
    """
    return {
        "value": measured.value,
        "u": measured.standard_uncertainty,
        "unit": measured.unit,
        "how": measured.method,
    }


class _ValueModel(Model):
    value: Finite
    u: NonNegative
    unit: str
    how: str


def _nan_for_null(value: object) -> object:
    return math.nan if value is None else value


_PlotNumber = Annotated[float, BeforeValidator(_nan_for_null)]


class _SeriesModel(Model):
    name: str
    x: tuple[_PlotNumber, ...]
    y: tuple[_PlotNumber, ...]
    u: tuple[_PlotNumber, ...] | None
    style: Literal["line", "points"]


class _PlotModel(Model):
    title: str
    x_label: str
    y_label: str
    series: tuple[_SeriesModel, ...]
    marks: tuple[tuple[str, _PlotNumber], ...]


class _ResultModel(Model):
    values: dict[str, _ValueModel]
    facts: dict[str, Any]
    plots: tuple[_PlotModel, ...]
    pictures: dict[str, str]
    warnings: tuple[str, ...]
    raw_sha256: str


class _StepModel(Model):
    version: Literal[1]
    run: str
    name: str
    measured_utc: str
    seconds: float
    skipped: str | None
    result: _ResultModel | None


def _result_document(result: StepResult, pictures: dict[str, str]) -> dict[str, Any]:
    for key, measured in result.values.items():
        numbers = (measured.value, measured.standard_uncertainty)
        if not all(map(math.isfinite, numbers)) or numbers[1] < 0:
            msg = (
                f"step {result.name}: {key} came out as {numbers[0]} with u "
                f"{numbers[1]}; expected a number: the measurement does not support it"
            )
            raise CalibrationError(msg)
    return {
        "values": {key: measured_document(m) for key, m in result.values.items()},
        "facts": plain_json(result.facts),
        "plots": [plain_json(asdict(plot)) for plot in result.plots],
        "pictures": pictures,
        "warnings": list(result.warnings),
        "raw_sha256": result.raw_sha256,
    }


def _as_result(model: _StepModel, folder: Path) -> StepResult | None:
    found = model.result
    if found is None:
        return None
    return StepResult(
        name=model.name,
        values={
            key: Measured(
                value=value.value,
                standard_uncertainty=value.u,
                method=value.how,
                unit=value.unit,
            )
            for key, value in found.values.items()
        },
        facts=found.facts,
        plots=tuple(map(_as_plot, found.plots)),
        pictures={
            title: _read_png(folder / name) for title, name in found.pictures.items()
        },
        warnings=found.warnings,
        raw_sha256=found.raw_sha256,
    )


def _as_plot(model: _PlotModel) -> Plot:
    series = tuple(Series(**one.model_dump()) for one in model.series)
    return Plot(**{**model.model_dump(exclude={"series"}), "series": series})


def plain_json(value: object) -> Any:
    """Return a value as JSON has it: no numpy, no tuples, null for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot read it: {error}; start anew with --fresh"
        raise ConfigError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}: expected a JSON object; start anew with --fresh"
        raise ConfigError(msg)
    return document


def _as_png(picture: UInt8Image) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def _read_png(path: Path) -> UInt8Image:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except OSError as error:
        msg = f"{path}: cannot read it: {error}; start anew with --fresh"
        raise ConfigError(msg) from error
