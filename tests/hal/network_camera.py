"""A network camera on loopback: MJPEG over HTTP, each picture showing when it began."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from bifocus.records import UInt8Image

PERIOD_S = 0.02
EXPOSURE_S = 0.004
SHAPE = (64, 80)
_BITS = 32
_CELL_PX = 8  # a block of JPEG, so that a bit is safe from its neighbours


def picture(began_s: float) -> UInt8Image:
    """Write the time in 0.1 ms as 32 black or white blocks."""
    count = round(began_s * 1e4) % 2**_BITS
    blocks = np.zeros(SHAPE, np.uint8)
    for bit in range(_BITS):
        row, column = divmod(bit, SHAPE[1] // _CELL_PX)
        area = np.s_[
            row * _CELL_PX : (row + 1) * _CELL_PX,
            column * _CELL_PX : (column + 1) * _CELL_PX,
        ]
        blocks[area] = 255 * (count >> bit & 1)
    return np.stack([blocks] * 3, axis=-1)


def read_time_s(pixels: UInt8Image) -> float:
    """Return the time that a picture shows."""
    count = 0
    for bit in range(_BITS):
        row, column = divmod(bit, SHAPE[1] // _CELL_PX)
        middle = pixels[
            row * _CELL_PX + _CELL_PX // 2, column * _CELL_PX + _CELL_PX // 2, 1
        ]
        count |= int(middle > 127) << bit
    return count / 1e4


@contextlib.contextmanager
def network_camera(
    held_back: int = 0, ending: threading.Event | None = None
) -> Iterator[str]:
    """Serve frames at 50 Hz, each sent `held_back` frames late; yield the URL.

    Setting `ending` hangs up.
    """
    over = ending or threading.Event()

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header(
                "Content-Type", "multipart/x-mixed-replace; boundary=frame"
            )
            self.end_headers()
            queue: list[bytes] = []
            next_s = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while not over.is_set():
                    began_s = time.monotonic()
                    time.sleep(EXPOSURE_S)
                    _, jpeg = cv2.imencode(".jpg", picture(began_s))
                    queue.append(jpeg.tobytes())
                    if len(queue) > held_back:
                        self._send(queue.pop(0))
                    next_s = max(next_s + PERIOD_S, time.monotonic())
                    time.sleep(max(0.0, next_s - time.monotonic()))

        def _send(self, jpeg: bytes) -> None:
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(b"--frame\r\n" + head.encode() + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    finally:
        over.set()
        server.shutdown()
        server.server_close()  # waits for the streams
        thread.join()
