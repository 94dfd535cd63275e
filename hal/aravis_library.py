"""The few functions of libaravis (GenICam, LGPL) that are used, through ctypes.

ctypes, because the library's own Python binding comes with the system's Python and
cannot be installed into a virtual environment.
"""

import ctypes
import ctypes.util
import functools
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_size_t, c_uint, c_void_p
from typing import Any

from bifocus.errors import ConfigError, DeviceError

FillPattern = ctypes.CFUNCTYPE(
    None, c_void_p, c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32
)


class _GError(ctypes.Structure):
    _fields_ = (
        ("domain", ctypes.c_uint32),
        ("code", c_int),
        ("message", c_char_p),
    )


_ERROR = POINTER(POINTER(_GError))

# Name: result, arguments; those that end with _ERROR are called through `Aravis.call`.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_frame_id": (ctypes.c_uint64, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_timestamp": (ctypes.c_uint64, (c_void_p,)),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,)),
    "arv_camera_create_stream": (c_void_p, (c_void_p, c_void_p, c_void_p, _ERROR)),
    "arv_camera_execute_command": (None, (c_void_p, c_char_p, _ERROR)),
    "arv_camera_get_device": (c_void_p, (c_void_p,)),
    "arv_camera_get_device_id": (c_char_p, (c_void_p, _ERROR)),
    "arv_camera_get_device_serial_number": (c_char_p, (c_void_p, _ERROR)),
    "arv_camera_get_exposure_time": (c_double, (c_void_p, _ERROR)),
    "arv_camera_get_integer_bounds": (
        None,
        (
            c_void_p,
            c_char_p,
            POINTER(ctypes.c_int64),
            POINTER(ctypes.c_int64),
            _ERROR,
        ),
    ),
    "arv_camera_get_integer_increment": (ctypes.c_int64, (c_void_p, c_char_p, _ERROR)),
    "arv_camera_get_integer": (ctypes.c_int64, (c_void_p, c_char_p, _ERROR)),
    "arv_camera_get_model_name": (c_char_p, (c_void_p, _ERROR)),
    "arv_camera_get_payload": (c_uint, (c_void_p, _ERROR)),
    "arv_camera_get_vendor_name": (c_char_p, (c_void_p, _ERROR)),
    "arv_camera_is_gv_device": (c_int, (c_void_p,)),
    "arv_camera_new": (c_void_p, (c_char_p, _ERROR)),
    "arv_camera_set_exposure_time": (None, (c_void_p, c_double, _ERROR)),
    "arv_camera_set_frame_rate": (None, (c_void_p, c_double, _ERROR)),
    "arv_camera_set_integer": (None, (c_void_p, c_char_p, ctypes.c_int64, _ERROR)),
    "arv_camera_set_pixel_format_from_string": (None, (c_void_p, c_char_p, _ERROR)),
    "arv_camera_set_region": (None, (c_void_p, c_int, c_int, c_int, c_int, _ERROR)),
    "arv_camera_set_string": (None, (c_void_p, c_char_p, c_char_p, _ERROR)),
    "arv_camera_set_trigger": (None, (c_void_p, c_char_p, _ERROR)),
    "arv_camera_clear_triggers": (None, (c_void_p, _ERROR)),
    "arv_camera_software_trigger": (None, (c_void_p, _ERROR)),
    "arv_camera_start_acquisition": (None, (c_void_p, _ERROR)),
    "arv_camera_stop_acquisition": (None, (c_void_p, _ERROR)),
    "arv_device_get_feature": (c_void_p, (c_void_p, c_char_p)),
    "arv_fake_camera_set_fill_pattern": (None, (c_void_p, FillPattern, c_void_p)),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_n_devices": (c_uint, ()),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_gv_fake_camera_get_fake_camera": (c_void_p, (c_void_p,)),
    "arv_gv_fake_camera_is_running": (c_int, (c_void_p,)),
    "arv_gv_fake_camera_new": (c_void_p, (c_char_p, c_char_p)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, ctypes.c_uint64)),
    "arv_stream_try_pop_buffer": (c_void_p, (c_void_p,)),
    "arv_update_device_list": (None, ()),
}

INSTALL_HINT = (
    "GenICam cameras need libaravis 0.8: `apt install libaravis-0.8-0` "
    "(Debian, Ubuntu, Raspberry Pi OS, JetPack)"
)


class Aravis:
    """The loaded library; attributes are its functions without their `arv_` prefix."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        objects = ctypes.CDLL(_found("gobject-2.0"))
        self._set = objects.g_object_set
        self._set.restype = None
        self._unref = objects.g_object_unref
        self._unref.argtypes, self._unref.restype = (c_void_p,), None
        self._clear_error = ctypes.CDLL(_found("glib-2.0")).g_clear_error
        self._clear_error.argtypes, self._clear_error.restype = (_ERROR,), None
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def plain(self, name: str, *arguments: Any) -> Any:
        """Call a function that cannot fail."""
        return getattr(self._library, "arv_" + name)(*arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function that reports failure through a GError.

        Raises
        ------
        DeviceError
            With the library's words.
        """
        error = POINTER(_GError)()
        result = getattr(self._library, "arv_" + name)(*arguments, byref(error))
        if error:
            text = (error.contents.message or b"").decode(errors="replace")
            self._clear_error(byref(error))
            msg = f"GenICam camera: {name}: {text}"
            raise DeviceError(msg)
        return result

    def unref(self, pointer: int) -> None:
        """Give up one reference to an object of the library."""
        self._unref(pointer)

    def set_double(self, pointer: int, name: str, value: float) -> None:
        """Set a property, a number, of an object of the library."""
        self._set(c_void_p(pointer), name.encode(), c_double(value), None)

    def device_ids(self) -> list[str]:
        """Return the names of all cameras that answer now; takes about a second."""
        self.plain("update_device_list")
        count = self.plain("get_n_devices")
        return [self.plain("get_device_id", i).decode() for i in range(count)]


@functools.cache
def load_aravis() -> Aravis:
    """Load libaravis, once.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    path = ctypes.util.find_library("aravis-0.8")
    if path is None:
        raise ConfigError(INSTALL_HINT)
    return Aravis(path)


def _found(name: str) -> str:
    path = ctypes.util.find_library(name)
    if path is None:
        msg = f"lib{name} is missing, which libaravis needs; {INSTALL_HINT}"
        raise ConfigError(msg)
    return path
