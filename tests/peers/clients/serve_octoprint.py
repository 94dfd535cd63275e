"""Puts OctoPrint's virtual printer behind a pseudo-terminal; prints the device's path.

Arguments: a folder for its files, and a JSON object of settings to change.
"""

import json
import os
import sys
import threading
import tty
from pathlib import Path
from typing import Any

from octoprint.plugin import plugin_manager
from octoprint.plugins.virtual_printer import VirtualPrinterPlugin
from octoprint.plugins.virtual_printer.virtual import VirtualEEPROM, VirtualPrinter

STEPS_PER_MM = 100.0  # what its M114 counts in, whatever it says


class Settings:
    """What the printer asks of OctoPrint's settings."""

    def __init__(self, values: dict[str, Any], folder: Path) -> None:
        self._values = values
        self._folder = folder

    def get(self, path: list[str], **_: Any) -> Any:
        value: Any = self._values
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    get_boolean = get_int = get_float = get

    def global_get_basefolder(self, _: str) -> str:
        return str(self._folder)


folder = Path(sys.argv[1])
values = VirtualPrinterPlugin().get_settings_defaults()
values.update(json.loads(sys.argv[2]))
memory = VirtualEEPROM.get_default_settings()
memory["steps"]["params"].update(X=STEPS_PER_MM, Y=STEPS_PER_MM, Z=STEPS_PER_MM)
(folder / "eeprom.json").write_text(json.dumps(memory))
plugin_manager(init=True)
printer = VirtualPrinter(Settings(values, folder), None, str(folder), read_timeout=0.5)
master, client = os.openpty()
tty.setraw(client)
sys.stdout.write(os.ttyname(client) + "\n")
sys.stdout.flush()


def answer() -> None:
    while True:
        line = printer.readline()
        if line:
            os.write(master, line.rstrip(b"\r\n") + b"\n")


threading.Thread(target=answer, daemon=True).start()
waiting = b""
while True:
    waiting += os.read(master, 4096)
    *lines, waiting = waiting.split(b"\n")
    for text in lines:
        printer.write(text + b"\n")
