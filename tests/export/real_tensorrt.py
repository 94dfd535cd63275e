"""The real TensorRT for RTX: in CI on x86-64 its absence is a failure, not a skip."""

import os
import platform
from importlib.util import find_spec

import pytest


def need_tensorrt_rtx() -> None:
    """Skip where there are no wheels; fail in CI where there are and none is here."""
    if find_spec("tensorrt_rtx_bindings") is not None:
        return
    is_ci = os.environ.get("BIFOCUS_PEERS") == "required"
    if is_ci and platform.machine() == "x86_64":
        pytest.fail(
            "the gate needs tensorrt-rtx-cu13-bindings: pip install --group dev"
        )
    pytest.skip("TensorRT for RTX has wheels for x86-64 only")
