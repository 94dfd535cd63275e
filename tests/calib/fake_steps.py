"""Quick steps for tests of the procedure: they measure little, and can be told to fail.

They take pictures of the real virtual instrument, so that whatever breaks there breaks
here as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bifocus.calib.step_result import Bench, Plot, Series, StepResult
from bifocus.calib.step_table import StepEntry
from bifocus.hal.open_instrument import OpenInstrument
from bifocus.records import Measured, StagePosition
from tests.scanner import CENTRE_UM, REGION_UM, truth_of


def bench_on(
    instrument: OpenInstrument,
    *,
    stage: object = None,
    camera: object = None,
    region_um: tuple[float, float, float, float] = REGION_UM,
) -> Bench:
    """The bench of an open instrument; stage or camera may be wrapped ones."""
    return Bench(
        stage=stage or instrument.stage,  # type: ignore[arg-type]
        camera=camera or instrument.camera,  # type: ignore[arg-type]
        clock=instrument.clock,
        config=instrument.config,
        region_um=region_um,
    )


def measured(value: float, unit: str = "um", u: float = 0.01) -> Measured:
    return Measured(value=value, standard_uncertainty=u, method="fake", unit=unit)


@dataclass
class FakeSteps:
    """Four steps; `calls` tells which ran, `errors` makes them fail, once or always."""

    instrument: OpenInstrument
    calls: list[str] = field(default_factory=list)
    errors: dict[str, BaseException] = field(default_factory=dict)
    na: float = 0.75
    scale: float = 1.0
    pixel_um: float = 0.25
    rotation_mrad: float = 1.0
    mirrored: bool = False

    @property
    def entries(self) -> tuple[StepEntry, ...]:
        return (
            self._entry("focus", is_essential=True),
            self._entry("xy", needs=("focus",)),
            self._entry("tilt", needs=("xy",)),
            self._entry("optics", needs=("focus",)),
            self._entry(
                "spacing", needs=("focus",), uses=("optics",), is_essential=True
            ),
        )

    def _entry(
        self,
        name: str,
        *,
        needs: tuple[str, ...] = (),
        uses: tuple[str, ...] = (),
        is_essential: bool = False,
    ) -> StepEntry:
        def run(bench: Bench, before: Mapping[str, StepResult]) -> StepResult:
            assert set(needs) <= set(before)
            self.calls.append(name)
            x_um, y_um = CENTRE_UM
            focus_um = truth_of(self.instrument).mean_focus_um(x_um, y_um)
            target = StagePosition(x_um=x_um, y_um=y_um, z_um=focus_um)
            frame = bench.camera.grab(after=bench.stage.move_to(target))
            if name in self.errors:
                raise self.errors[name]
            return getattr(self, f"_{name}")(focus_um, frame.pixels)  # type: ignore[no-any-return]

        return StepEntry(
            name=name,
            run=run,
            what=f"fake {name}",
            z_frames=0,
            xy_frames=1,
            needs=needs,
            uses=uses,
            is_essential=is_essential,
        )

    def _focus(self, focus_um: float, picture: np.ndarray) -> StepResult:  # type: ignore[type-arg]
        x_um, y_um = CENTRE_UM
        curve = Series(name="Brenner", x=(1.0, 2.0, float("nan")), y=(1.0, 2.0, 1.0))
        return StepResult(
            name="focus",
            values={"focus_um": measured(focus_um)},
            facts={
                "x_um": np.float64(x_um),
                "y_um": y_um,
                "curve": {"z_um": np.array([1.0, 2.0]), "sharpness": [1.0, 2.0]},
                "asymmetry": float("nan"),
            },
            plots=(Plot(title="t", x_label="x", y_label="y", series=(curve,)),),
            pictures={"the place, in focus": picture},
            warnings=("dust",),
            raw_sha256="ab" * 32,
        )

    def _xy(self, focus_um: float, picture: object) -> StepResult:
        return StepResult(
            name="xy",
            values={
                "pixel_um": measured(self.pixel_um),
                "scale_x": measured(self.scale, ""),
                "scale_y": measured(self.scale, ""),
                "rotation_mrad": measured(self.rotation_mrad, "mrad"),
            },
            facts={"mirrored": self.mirrored},
        )

    def _tilt(self, focus_um: float, picture: object) -> StepResult:
        return StepResult(name="tilt", values={"tilt_mrad": measured(2.0, "mrad")})

    def _optics(self, focus_um: float, picture: object) -> StepResult:
        return StepResult(name="optics", values={"na": measured(self.na, "")})

    def _spacing(self, focus_um: float, picture: object) -> StepResult:
        return StepResult(name="spacing", values={"half_spacing_um": measured(0.75)})
