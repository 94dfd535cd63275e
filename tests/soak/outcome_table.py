"""The table of outcomes: what was required, and how often what came to pass."""

from collections import Counter, defaultdict

from bifocus.hal.fault_outcomes import FAMILIES, REQUIRED, Family
from tests.soak.rehearsal import Story


class OutcomeTable:
    """Counts the endings of runs by fault and board; checks them by the requirement."""

    def __init__(self) -> None:
        self._endings: dict[tuple[str, Family], Counter[str]] = defaultdict(Counter)

    def add(self, faults: frozenset[str], family: Family, story: Story) -> None:
        name = "several at once" if len(faults) > 1 else next(iter(faults), "none hit")
        self._endings[name, family][ending(story)] += 1

    @property
    def is_empty(self) -> bool:
        return not self._endings

    def lines(self) -> list[str]:
        """Return the table as text."""
        found = []
        for fault in [*REQUIRED, "several at once", "none hit"]:
            found.append(fault)
            for family in FAMILIES:
                endings = self._endings[fault, family]
                counted = ", ".join(f"{name} {n}" for name, n in endings.most_common())
                required = REQUIRED[fault][family].text if fault in REQUIRED else "any"
                found.append(f"  {family:<11} {counted or 'never':<62} | {required}")
        return found


def ending(story: Story) -> str:
    """Return the run's outcome in the words of `REQUIRED`."""
    if story.errors:
        again = ", then went on" if story.ending.startswith("done") else ""
        return f"stopped ({story.errors[0]}{again})"
    return "unknowable" if story.unknowable else "recovered"


def breach(fault: str, family: Family, story: Story) -> str | None:
    """Return what is wrong with the outcome of a single fault, or None."""
    required = REQUIRED[fault][family]
    if story.unknowable and not required.is_unknowable:
        return f"{fault} on {family}: position unknowable, required: {required.text}"
    if not story.errors:
        allowed = required.may_recover
    elif story.errors[0].endswith("on opening"):
        allowed = fault.endswith(("_reply", "_command"))
    else:
        allowed = story.errors[0] in required.may_stop_with
    if allowed:
        return None
    return f"{fault} on {family}: {ending(story)}, required: {required.text}"
