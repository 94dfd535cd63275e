"""What binds a profile to an instrument, and the refusal of another one's profile."""

from bifocus.config import Instrument
from bifocus.errors import ConfigError
from bifocus.hal.devices import Camera, Stage
from bifocus.records import InstrumentProfile


def read_identity(stage: Stage, camera: Camera, config: Instrument) -> dict[str, str]:
    """Return what binds a profile to this instrument: its parts and its optics."""
    seen = camera.capabilities
    return {
        "instrument": config.name,
        "stage": stage.capabilities.identity,
        "camera": seen.identity,
        "image": f"{seen.width_px}x{seen.height_px} px of {config.optics.pixel_um} um",
        "objective": f"{config.optics.objective}, NA {config.optics.na}",
    }


def check_identity(profile: InstrumentProfile, identity: dict[str, str]) -> None:
    """Refuse a profile of other hardware.

    Raises
    ------
    ConfigError
        Naming each property that differs, with both values.
    """
    names = sorted(set(profile.identity) | set(identity))
    differing = [
        f"{name}: profile '{profile.identity.get(name, '-')}', "
        f"instrument '{identity.get(name, '-')}'"
        for name in names
        if profile.identity.get(name) != identity.get(name)
    ]
    if differing:
        msg = (
            "the profile belongs to another instrument; run `bifocus calibrate`:\n  "
            + "\n  ".join(differing)
        )
        raise ConfigError(msg)
