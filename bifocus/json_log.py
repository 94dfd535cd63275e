"""The log as JSON lines, for programs that collect logs of many scanners."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from bifocus.errors import SlideFileError


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, thread, text, error if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "text": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def json_log(path: Path | None) -> Iterator[None]:
    """Append everything that is logged while the block runs; None logs nothing.

    Raises
    ------
    SlideFileError
        If the file cannot be opened.
    """
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        msg = f"{path}: cannot write the log: {error.strerror}"
        raise SlideFileError(msg) from error
    handler.setFormatter(JsonFormatter())
    handler.setLevel(logging.INFO)
    bifocus = logging.getLogger("bifocus")
    before = bifocus.level
    bifocus.addHandler(handler)
    bifocus.setLevel(min(logging.INFO, bifocus.getEffectiveLevel()))
    try:
        yield
    finally:
        bifocus.removeHandler(handler)
        bifocus.setLevel(before)
        handler.close()
