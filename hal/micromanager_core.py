"""Opens Micro-Manager's core, shared by the sections that describe the same one.

pymmcore is the core's plain Python binding (LGPL); the adapter libraries come with a
Micro-Manager installation, or for tests with the package `mm-test-adapters`.
"""

import gc
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocus.errors import ConfigError, DeviceError
from bifocus.micromanager_config import (
    SIMULATING,
    MicroManagerCore,
    MicroManagerDevice,
)


@dataclass(slots=True)
class _Shared:
    core: Any
    users: int = 0


_open_cores: dict[str, _Shared] = {}
_open_cores_lock = threading.Lock()


class CoreLease:
    """One user's share of a core; the last one to close unloads all its devices."""

    def __init__(self, key: str, core: Any) -> None:
        self._key = key
        self._core: Any = core

    @property
    def is_closed(self) -> bool:
        """Whether this share was given back."""
        return self._core is None

    @property
    def core(self) -> Any:
        """The `pymmcore.CMMCore`.

        Raises
        ------
        DeviceError
            If this share was given back.
        """
        if self._core is None:
            msg = "the Micro-Manager device is closed"
            raise DeviceError(msg)
        return self._core

    def is_simulated(self, label: str) -> bool:
        """Return whether a device comes from a library that only simulates."""
        return self.core.getDeviceLibrary(label) in SIMULATING

    def identity(self, label: str) -> str:
        """Return library, device and label, which bind a calibration profile."""
        library = self.core.getDeviceLibrary(label)
        return f"Micro-Manager {library} {self.core.getDeviceName(label)} {label}"

    def check_loaded(self, label: str, *, key: str) -> None:
        """Refuse a label that the core does not know.

        Raises
        ------
        ConfigError
            With the labels that it does know.
        """
        known = [name for name in self.core.getLoadedDevices() if name != "Core"]
        if label not in known:
            msg = f"{key} '{label}' is not loaded; Micro-Manager has: {known}"
            raise ConfigError(msg)

    def close(self) -> None:
        """Give the share back; may be called twice."""
        core, self._core = self._core, None
        if core is None:
            return
        with _open_cores_lock:
            shared = _open_cores[self._key]
            shared.users -= 1
            if shared.users == 0:
                del _open_cores[self._key]
                core.unloadAllDevices()
                # Its threads end with the last reference; at interpreter exit they
                # would abort the process.
                del core, shared
                gc.collect()


def lease_core(config: MicroManagerCore, *, base_dir: Path) -> CoreLease:
    """Open the core that a section describes, or share it if it is open.

    Raises
    ------
    ConfigError
        If pymmcore is not installed, or a file or folder is missing.
    DeviceError
        If Micro-Manager cannot load a device; its own words are in the text.
    """
    key = config.model_dump_json()
    with _open_cores_lock:
        shared = _open_cores.get(key)
        if shared is None:
            shared = _Shared(core=_open_core(config, base_dir))
            _open_cores[key] = shared
        shared.users += 1
        return CoreLease(key, shared.core)


def _open_core(config: MicroManagerCore, base_dir: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # SWIG's generated modules crash where their own warnings become errors.
            warnings.simplefilter("ignore")
            import pymmcore
    except ImportError as error:
        msg = (
            "a Micro-Manager device needs the package pymmcore: "
            "`pip install 'bifocus[micromanager]'`"
        )
        raise ConfigError(msg) from error
    paths = [base_dir / path for path in config.adapter_paths]
    for path in paths:
        if not path.is_dir():
            msg = f"adapter_paths: {path} is not a folder"
            raise ConfigError(msg)
    core = pymmcore.CMMCore()
    core.setDeviceAdapterSearchPaths([str(path) for path in paths])
    try:
        _load(core, config, base_dir)
    except RuntimeError as error:
        core.unloadAllDevices()
        msg = (
            f"Micro-Manager cannot load its devices: {error}; adapter libraries must "
            f"be of device interface {core.getAPIVersionInfo()!r}; folders: "
            f"{[str(path) for path in paths]}"
        )
        raise DeviceError(msg) from error
    return core


def _load(core: Any, config: MicroManagerCore, base_dir: Path) -> None:
    if config.config_file is not None:
        path = base_dir / config.config_file
        if not path.is_file():
            msg = f"config_file: {path} is missing"
            raise ConfigError(msg)
        core.loadSystemConfiguration(str(path))
        return
    for device in config.devices:
        core.loadDevice(device.label, device.library, device.device)
        if device.hub:
            core.setParentLabel(device.label, device.hub)
        for name, value in device.properties.items():
            if core.hasProperty(device.label, name) and _is_early(core, device, name):
                core.setProperty(device.label, name, value)
    for device in config.devices:
        core.initializeDevice(device.label)
        for name, value in device.properties.items():
            if not _is_early(core, device, name):
                core.setProperty(device.label, name, value)


def _is_early(core: Any, device: MicroManagerDevice, name: str) -> bool:
    """Return whether a property must be set before the device starts."""
    return bool(core.isPropertyPreInit(device.label, name))
