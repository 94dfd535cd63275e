"""The text of a new instrument file, made of the commented pieces in data/init."""

from pathlib import Path
from typing import Literal

from bifocus.errors import ConfigError

StageKind = Literal["virtual", "sangaboard", "grbl", "marlin", "asi", "micromanager"]
CameraKind = Literal[
    "virtual", "opencv", "gstreamer", "aravis", "basler", "picamera2", "micromanager"
]

_DATA = Path(__file__).parent / "data"
TEMPLATE = _DATA / "instrument.yaml"
"""The virtual instrument, whole."""

# Micro-Manager's core is written out where it is named first; later it is named only.
_CORE = "  core: *core               # the one that stage: describes\n"


def instrument_text(stage: StageKind, camera: CameraKind) -> str:
    """Return the commented text of an instrument file with these devices.

    Parameters
    ----------
    stage, camera
        Their kinds, as `kind:` names them in the file.

    Returns
    -------
    str
        YAML that `load_instrument` takes; `FILL IN` marks what only the user knows.

    Raises
    ------
    ConfigError
        If the camera is virtual and the stage is not: it could not see where the
        glass is.
    """
    if camera == "virtual":
        if stage != "virtual":
            msg = (
                f"--stage {stage} --camera virtual: a virtual camera cannot see a real "
                "stage; name your camera's kind, or --stage virtual. A board that is "
                "played by software: examples/boards/virtual-marlin.yaml"
            )
            raise ConfigError(msg)
        return TEMPLATE.read_text(encoding="utf-8")
    seen = _piece(f"camera-{camera}") + _piece("camera-real")
    text = "\n".join([_piece("head"), _stage(stage), seen, _piece("scan")])
    return text.replace(_CORE, _piece("core"), 1)


def _stage(kind: StageKind) -> str:
    if kind != "virtual":
        return _piece(f"stage-{kind}") + _piece("stage-real")
    sections = TEMPLATE.read_text(encoding="utf-8").split("\n\n")
    (own,) = (section for section in sections if section.startswith("stage:"))
    return own + "\n"


def _piece(name: str) -> str:
    return (_DATA / "init" / f"{name}.yaml").read_text(encoding="utf-8")
