"""Cameras: what is plugged in, and what the instrument's kind of camera needs."""

from collections.abc import Callable, Iterator

from bifocus.camera_config import CameraConfig, OpenCvCameraConfig
from bifocus.diagnosis import Diagnosis, Machine

TOPIC = "cameras"

FindModule = Callable[[str], bool]
"""Whether a Python module, or with a leading `lib` a shared library, can be found."""

_GIGE_BUFFER_BYTES = 1 << 20  # a frame's packets wait here while Python is busy
_USB3_BUFFER_MB = 256  # Linux' default of 16 MB holds less than one large frame

# What each kind of camera loads, and how to get it.
_NEEDS: dict[str, tuple[str, str]] = {
    "aravis": (
        "libaravis-0.8",
        "sudo apt-get install libaravis-0.8-0 (Debian, Ubuntu), or from its source",
    ),
    "basler": ("pypylon", "pip install pypylon"),
    "picamera2": (
        "picamera2",
        "sudo apt-get install python3-picamera2; a venv with --system-site-packages",
    ),
    "micromanager": (
        "pymmcore",
        "pip install pymmcore, in the version of your Micro-Manager's device interface",
    ),
}


def list_cameras(machine: Machine) -> dict[str, str]:
    """Return the video devices: path to name."""
    return {
        f"/dev/{path.split('/')[-2]}": machine.text(path) or "?"
        for path in machine.glob("/sys/class/video4linux", "*/name")
    }


def diagnose_cameras(
    camera: CameraConfig,
    machine: Machine,
    *,
    finds: FindModule,
    opencv_build: str,
    may_open: Callable[[str], bool],
) -> Iterator[Diagnosis]:
    """Yield the video devices, and whether the configured camera can work.

    Parameters
    ----------
    opencv_build
        `cv2.getBuildInformation()`.
    may_open
        Whether a device file can be opened by this process.
    """
    for path, name in list_cameras(machine).items():
        yield Diagnosis(topic=TOPIC, name=path, state="info", found=name)
    if isinstance(camera, OpenCvCameraConfig):
        yield _video_device(camera, machine, may_open)
    elif camera.kind == "gstreamer":
        yield _gstreamer(opencv_build)
    elif camera.kind in _NEEDS:
        module, advice = _NEEDS[camera.kind]
        is_there = finds(module)
        yield Diagnosis(
            topic=TOPIC,
            name=camera.kind,
            state="ok" if is_there else "fail",
            found=f"{module} is {'there' if is_there else 'not installed'}",
            advice="" if is_there else advice,
        )
        yield from _buffers(machine, camera.kind)
    else:
        yield Diagnosis(topic=TOPIC, name=camera.kind, state="ok", found="simulated")


def _video_device(
    camera: OpenCvCameraConfig, machine: Machine, may_open: Callable[[str], bool]
) -> Diagnosis:
    device = camera.device
    path = f"/dev/video{device}" if isinstance(device, int) else device
    if "://" in path:
        found = "a camera on the network; not looked at"
        return Diagnosis(topic=TOPIC, name=path, state="info", found=found)
    if not machine.exists(path):
        there = ", ".join(list_cameras(machine)) or "none"
        return Diagnosis(
            topic=TOPIC,
            name=path,
            state="fail",
            found=f"there is no such device (there are: {there})",
            advice="check the cable; set `camera.device`, best to a name under "
            "/dev/v4l/by-id, which stays",
        )
    if not may_open(path):
        return Diagnosis(
            topic=TOPIC,
            name=path,
            state="fail",
            found="no permission to open it",
            advice="sudo usermod -aG video $USER, then log in again",
        )
    return Diagnosis(topic=TOPIC, name=path, state="ok", found="there, and ours")


def _gstreamer(opencv_build: str) -> Diagnosis:
    lines = [line.strip() for line in opencv_build.splitlines()]
    line = next((line for line in lines if line.startswith("GStreamer:")), "")
    if "YES" in line:
        return Diagnosis(topic=TOPIC, name="gstreamer", state="ok", found=line)
    return Diagnosis(
        topic=TOPIC,
        name="gstreamer",
        state="fail",
        found="OpenCV was built without GStreamer, as all those from pip are",
        advice="sudo apt-get install python3-opencv, pip uninstall "
        "opencv-python-headless, and a venv with --system-site-packages",
    )


def _buffers(machine: Machine, kind: str) -> Iterator[Diagnosis]:
    """Look at the kernel's buffers, where lost packets and cut frames come from."""
    network = machine.text("/proc/sys/net/core/rmem_max")
    if kind in ("aravis", "basler") and network and int(network) < _GIGE_BUFFER_BYTES:
        yield Diagnosis(
            topic=TOPIC,
            name="network buffer",
            state="warn",
            found=f"net.core.rmem_max is {network} bytes: GigE frames lose packets",
            advice=f"sudo sysctl -w net.core.rmem_max={4 * _GIGE_BUFFER_BYTES} (only "
            "for GigE cameras)",
        )
    usb = machine.text("/sys/module/usbcore/parameters/usbfs_memory_mb")
    if kind in ("aravis", "basler") and usb and 0 < int(usb) < _USB3_BUFFER_MB:
        yield Diagnosis(
            topic=TOPIC,
            name="USB buffer",
            state="warn",
            found=f"usbfs_memory_mb is {usb}; large USB3 Vision frames are cut short",
            advice="echo 1000 | sudo tee "
            "/sys/module/usbcore/parameters/usbfs_memory_mb (only for USB3 cameras)",
        )
