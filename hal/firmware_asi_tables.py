"""Names, settings and cards of a virtual ASI controller."""

import re

COMMAND = re.compile(r"(\d{0,2})\s*([A-Z]+|[/\\!~@])\s*(.*)$", re.DOTALL)
PARAMETER = re.compile(r"([A-Z])\s*(=\s*[+-]?(?:\d+\.?\d*|\.\d+)|[?+-])?")
LOWEST_MM_PER_S = 0.01  # assumed; the pages tell only that the highest is clamped
UNITS_PER_UM = 10.0  # positions are in tenths of a micrometre
CARDS = {"": "", "0": "TIGER_COMM", "1": "STD_XY", "2": "STD_Z"}
HEX_ADDRESS = {"30": "0", "31": "1", "32": "2"}
AXIS_CARD = {"X": "1", "Y": "1", "Z": "2"}
_NEVER_MM = 1000.0  # the factory's limits and home lie beyond any stage


# Short and long names; the first is the one used below.
_NAMES = (
    ("M", "MOVE"),
    ("R", "MOVREL"),
    ("W", "WHERE"),
    ("/", "STATUS"),
    ("RS", "RDSTAT"),
    ("RB", "RDSBYTE"),
    ("\\", "HALT"),
    ("H", "HERE"),
    ("Z", "ZERO"),
    ("!", "HOME"),
    ("HM", "SETHOME"),
    ("S", "SPEED"),
    ("AC", "ACCEL"),
    ("B", "BACKLASH"),
    ("PC", "PCROS"),
    ("E", "ERROR"),
    ("OS", "OVERSHOOT"),
    ("WT", "WAIT"),
    ("UM", "UNITS"),
    ("SL", "SETLOW"),
    ("SU", "SETUP"),
    ("MC", "MOTCTRL"),
    ("V", "VERSION"),
    ("BU", "BUILD"),
    ("CD", "CDATE"),
    ("I", "INFO"),
    ("N", "WHO"),
    ("SS", "SAVESET"),
    ("~", "RESET"),
    ("VB", "VERBOSE"),
)
CANONICAL = {name: names[0] for names in _NAMES for name in names}
# Value at the start, and whether a query is answered `:X=1 A` instead of `:A X=1`.
SETTINGS: dict[str, tuple[float, bool]] = {
    "AC": (50.0, True),
    "B": (0.0, True),
    "E": (0.0004, True),
    "UM": (10000.0, True),
    "WT": (0.0, True),
    "PC": (0.000024, False),
    "OS": (0.0, False),
    "HM": (_NEVER_MM, False),
    "SL": (-_NEVER_MM, False),
    "SU": (_NEVER_MM, False),
    "S": (1.0, False),
}
