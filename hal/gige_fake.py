"""A GigE Vision camera on the loopback network, with our pixels.

libaravis brings a camera server for its own tests; a callback fills each frame. Clients
speak the real protocol to it: discovery, registers, triggers, streamed packets.
"""

import ctypes
import logging
import queue
import socket
import threading
from collections.abc import Callable

import numpy as np

from bifocus.clock import Clock
from bifocus.errors import DeviceError
from bifocus.hal.aravis_library import FillPattern, load_aravis
from bifocus.records import UInt8Image

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_PORT = 3956  # GigE Vision Control Protocol
Render = Callable[[float, float], UInt8Image]
_RGB8 = 0x02180014  # GenICam Pixel Format Naming Convention
_MONO8 = 0x01080001
_FILL_S = 30.0  # longest rendering that a client would wait for


class GigeFake:
    """Serves frames of `render(exposure_start_s, exposure_s)` until closed.

    `render` returns (rows, columns, 3) RGB of the size that the client set, and is
    called in a thread of ours after the exposure time has passed. If it fails, the
    frame goes out black, `failure` tells why, and the log too. `lost_packets` is the
    share of image packets that never leave, as on a bad cable; none is sent again.

    Raises
    ------
    ConfigError
        If libaravis is not installed.
    DeviceError
        If another camera server runs on this machine already.
    """

    def __init__(
        self,
        render: Render,
        *,
        clock: Clock,
        serial: str = "BIFOCUS1",
        lost_packets: float = 0.0,
    ) -> None:
        self._render = render
        self._clock = clock
        self.failure: Exception | None = None
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._arv = load_aravis()
        _check_port_is_free()
        self._camera = self._arv.plain(
            "gv_fake_camera_new", LOOPBACK.encode(), serial.encode()
        )
        if not self._arv.plain("gv_fake_camera_is_running", self._camera):
            self._arv.unref(self._camera)
            msg = f"libaravis cannot serve a GigE camera on {LOOPBACK}"
            raise DeviceError(msg)
        self._arv.set_double(self._camera, "gvsp-lost-ratio", lost_packets)
        self._thread = threading.Thread(target=self._work, name="GigE fake camera")
        self._thread.start()
        self._callback = FillPattern(self._fill)  # kept, or it would be collected
        fake = self._arv.plain("gv_fake_camera_get_fake_camera", self._camera)
        self._arv.plain("fake_camera_set_fill_pattern", fake, self._callback, None)

    def close(self) -> None:
        """Stop serving; may be called twice."""
        if self._camera:
            camera, self._camera = self._camera, 0
            self._arv.unref(camera)
            self._jobs.put(None)
            self._thread.join()

    def _fill(
        self, buffer: int, _data: int, exposure_us: int, _gain: int, code: int
    ) -> None:
        """Hand the work over: libaravis' thread may neither log nor raise."""
        done = threading.Event()

        def job() -> None:
            try:
                self._expose(buffer, exposure_us * 1e-6, code)
            except Exception as error:  # told by `failure`; the server must live on
                self.failure = error
                logger.exception("the GigE fake camera cannot make a frame")
            finally:
                done.set()

        self._jobs.put(job)
        done.wait(_FILL_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _expose(self, buffer: int, exposure_s: float, code: int) -> None:
        arv = self._arv
        width_px = arv.plain("buffer_get_image_width", buffer)
        height_px = arv.plain("buffer_get_image_height", buffer)
        size = ctypes.c_size_t()
        data = arv.plain("buffer_get_data", buffer, ctypes.byref(size))
        wanted = width_px * height_px * (3 if code == _RGB8 else 1)
        ctypes.memset(data, 0, wanted)
        start_s = self._clock.monotonic_s()
        self._clock.sleep(exposure_s)
        pixels = _encoded(self._render(start_s, exposure_s), code)
        if pixels.nbytes != wanted:
            msg = f"rendered {pixels.nbytes} bytes, the client's frame has {wanted}"
            raise DeviceError(msg)
        ctypes.memmove(data, pixels.ctypes.data, wanted)


def _check_port_is_free() -> None:
    """Refuse a second server: libaravis would share the port, and both would fail."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, _PORT))
        except OSError as error:
            msg = (
                f"cannot serve a GigE camera on {LOOPBACK}: port {_PORT} is taken "
                f"({error.strerror}), probably by another such server; end it first"
            )
            raise DeviceError(msg) from error


def _encoded(rgb: UInt8Image, code: int) -> UInt8Image:
    """Return the pixels in the format that the client chose."""
    if code == _RGB8 or (code == _MONO8 and rgb.ndim == 2):
        return np.ascontiguousarray(rgb)
    msg = f"this camera serves RGB8, or Mono8 of a grey picture, not {code:#010x}"
    raise DeviceError(msg)
