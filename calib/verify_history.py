"""`verify.jsonl` beside the profile: one line a verification, never rewritten."""

import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bifocus.calib.step_files import measured_document
from bifocus.calib.verify_judge import Point
from bifocus.errors import ConfigError, SlideFileError
from bifocus.records import Measured

logger = logging.getLogger(__name__)


def append_run(
    path: Path,
    now: datetime,
    profile_sha256: str,
    values: Mapping[str, Measured],
    verdict: str,
) -> None:
    """Add one line, and wait until the disk has it.

    Raises
    ------
    SlideFileError
        If the disk refuses.
    """
    document = {
        "utc": now.isoformat(timespec="seconds"),
        "profile_sha256": profile_sha256,
        "verdict": verdict,
        "values": {key: measured_document(it) for key, it in values.items()},
    }
    line = json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            if _is_cut(path):  # by a power cut: what was cut stays a line of its own
                stream.write("\n")
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        msg = f"{path}: cannot add this verification to it: {error.strerror}"
        raise SlideFileError(msg) from error


def read_runs(path: Path, profile_sha256: str) -> dict[str, list[Point]]:
    """Return the runs against one profile, by key, oldest first.

    A damaged line, as after a power cut, is left out with a warning.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot read the history: {error}; move it away"
        raise ConfigError(msg) from error
    found: dict[str, list[Point]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            run = _as_points(json.loads(line), profile_sha256)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("%s: line %d is damaged: %s", path, number, error)
            continue
        for key, point in run.items():
            found.setdefault(key, []).append(point)
    return found


def _as_points(document: dict[str, Any], profile_sha256: str) -> dict[str, Point]:
    if document["profile_sha256"] != profile_sha256:
        return {}
    utc = datetime.fromisoformat(document["utc"])
    return {
        key: Point(utc=utc, value=float(it["value"]), u=float(it["u"]))
        for key, it in document["values"].items()
    }


def _is_cut(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")
