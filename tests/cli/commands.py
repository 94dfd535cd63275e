"""Run commands inside the test process, and the small instrument they run on."""

import contextlib
import io
import json
import logging
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from bifocus.__main__ import main
from bifocus.instrument_text import TEMPLATE

# The small instrument's tissue lies at x 200..392, y 150..310 um; here is only glass.
GLASS_UM = (1000.0, 1000.0, 100.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Return the one JSON document that is all of standard output."""
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    def fails(self, code: int, *words: str) -> bool:
        """Whether it ended as a deliberate error that says all these words."""
        assert "Traceback" not in self.err, self.err
        assert self.code == code, (self.code, self.err)
        for word in words:
            assert word in self.err, (word, self.err)
        return self.out == ""


def run_cli(*arguments: object) -> Outcome:
    """Run `bifocus ARGUMENTS`; logging is put back as it was."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        _logging_kept(),
        patch.object(sys, "argv", ["bifocus", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def write_instrument(path: Path, **changes: dict[str, Any]) -> Path:
    """Write the packaged instrument with a small camera over procedural tissue.

    Three by two tiles of 64 um, which overlap enough to be registered; the slide is
    clear glass around the tissue. Each keyword changes keys of one section.
    """
    document = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    small: dict[str, dict[str, Any]] = {
        "camera": {"width_px": 256, "height_px": 256},
        "virtual_slide": {
            **{"tissue": "procedural:640x768", "beyond": "glass"},
            **{"thickness_um": 0.0, "layers": 1},
        },
        "calibration": {"repeats": 1},
        "scan": {"region_um": [216.0, 174.0, 160.0, 112.0], "overlap": 0.2},
    }
    for section in {*small, *changes}:
        values = {**small.get(section, {}), **changes.get(section, {})}
        document[section] = {**document[section], **values}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


@contextlib.contextmanager
def files_at_most(n_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to grow any file past `n_bytes`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    loggers = [
        logging.getLogger(name)
        for name in ("bifocus.hal.tissue_source", "bifocus.calib", "bifocus.jobs")
    ]
    levels = [logger.level for logger in loggers]
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
