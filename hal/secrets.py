"""Hides passwords in what leaves the machine: reports and recordings."""

import re
from collections.abc import Mapping
from typing import Any

_SECRET_KEY = re.compile(r"password|passwd|secret|token|credential|api_?key", re.I)
_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_HIDDEN = "***"


def without_secrets(value: Any) -> Any:
    """Return a document with passwords hidden: by key, and in addresses.

    Examples
    --------
    >>> without_secrets({"device": "rtsp://me:pw@cam/1", "token": "x", "port": 3})
    {'device': 'rtsp://***@cam/1', 'token': '***', 'port': 3}
    """
    if isinstance(value, Mapping):
        return {
            key: _HIDDEN if _SECRET_KEY.search(str(key)) else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return _IN_URL.sub(_HIDDEN, value) if isinstance(value, str) else value
