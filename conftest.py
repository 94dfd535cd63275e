"""Where torch is absent, the tests and examples of training code are not collected."""

import importlib.util

collect_ignore_glob = []
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob += ["tests/model/*", "bifocus/model/*", "bifocus/export/*"]
    # The rest of tests/export needs no torch: TensorRT builds from a graph alone.
    collect_ignore_glob += ["tests/export/test_p*.py", "tests/export/test_quantise.py"]
    collect_ignore_glob += ["tests/export/test_export_model.py"]


def pytest_report_header() -> str | None:
    """Say so at the top of the run."""
    if collect_ignore_glob:
        return "torch is absent: the tests of model/ and export/ are left out"
    return None
