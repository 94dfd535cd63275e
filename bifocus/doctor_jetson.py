"""NVIDIA Jetson: JetPack and the TensorRT that comes with it, power mode, swap."""

import re
from collections.abc import Iterator

from bifocus.diagnosis import Diagnosis, Machine

TOPIC = "jetson"
_SMALL_MB = 9000.0  # boards of 8 GB share it with the GPU; an engine build needs more
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+)\.(\d+)")
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")


def jetson_model(machine: Machine) -> str:
    """Return the board's name, '' where this is no Jetson."""
    model = machine.text("/proc/device-tree/model") or ""
    if "jetson" in model.lower():
        return model
    return "Jetson" if machine.exists("/etc/nv_tegra_release") else ""


def diagnose_jetson(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the state of a Jetson; nothing on any other machine."""
    model = jetson_model(machine)
    if not model:
        return
    yield _jetpack(model, machine.text("/etc/nv_tegra_release") or "")
    yield from _power_mode(machine)
    yield from _swap(machine)


def _jetpack(model: str, release: str) -> Diagnosis:
    found = _RELEASE.search(release)
    if not found:
        advice = "look into /etc/nv_tegra_release, and tell us"
        text = "its L4T release cannot be read"
        return Diagnosis(
            topic=TOPIC, name=model, state="warn", found=text, advice=advice
        )
    major, minor, patch = map(int, found.groups())
    version = f"L4T {major}.{minor}.{patch}"
    if major < 36:
        text = f"{version} (JetPack 5 or older): Python 3.8, TensorRT 8"
        advice = "flash JetPack 6.1 or later"
        return Diagnosis(
            topic=TOPIC, name=model, state="fail", found=text, advice=advice
        )
    if major == 36 and minor < 4:
        return Diagnosis(
            topic=TOPIC,
            name=model,
            state="warn",
            found=f"{version} (JetPack 6.0): TensorRT 8.6, and 10.3 is the oldest "
            "that works",
            advice="upgrade to JetPack 6.1 or later, or take --engine onnxruntime",
        )
    text = "6.1 or 6.2: TensorRT 10.3" if major == 36 else "7: TensorRT 10.13 or later"
    return Diagnosis(
        topic=TOPIC, name=model, state="ok", found=f"{version} (JetPack {text})"
    )


def _power_mode(machine: Machine) -> Iterator[Diagnosis]:
    """Compare nvpmodel's mode with the board's strongest, by name or number 0."""
    modes = {
        int(number): name
        for number, name in _MODE.findall(machine.text("/etc/nvpmodel.conf") or "")
    }
    status = re.search(r"pmode:(\d+)", machine.text("/var/lib/nvpmodel/status") or "")
    if not modes or not status:
        return
    mode = int(status[1])
    strongest = [number for number, name in modes.items() if name.startswith("MAXN")]
    best = strongest[0] if strongest else 0
    is_best = mode == best or mode in strongest
    yield Diagnosis(
        topic=TOPIC,
        name="power mode",
        state="ok" if is_best else "warn",
        found=f"{modes.get(mode, '?')} (mode {mode})",
        advice=""
        if is_best
        else f"sudo nvpmodel -m {best} ({modes.get(best, '?')}) && sudo jetson_clocks",
    )


def _swap(machine: Machine) -> Iterator[Diagnosis]:
    sizes = {
        line.split(":")[0]: float(line.split()[1]) * 1024 / 1e6
        for line in (machine.text("/proc/meminfo") or "").splitlines()
        if line.startswith(("MemTotal:", "SwapTotal:"))
    }
    devices = (machine.text("/proc/swaps") or "").splitlines()[1:]
    on_disk = [line for line in devices if not line.startswith("/dev/zram")]
    if sizes.get("MemTotal", _SMALL_MB) < _SMALL_MB and not on_disk:
        yield Diagnosis(
            topic=TOPIC,
            name="swap",
            state="warn",
            found=f"{sizes['MemTotal'] / 1e3:.1f} GB of memory and no swap but zram: "
            "an engine build may be killed",
            advice="add 8 GB of swap on an SSD while building, or build with less "
            "workspace",
        )
