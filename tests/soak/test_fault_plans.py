"""A thousand random fault plans per protocol, and every single fault by itself.

What must never happen, whatever the plan: a wait without end, a position told that is
not true, a picture exposed in motion, black or torn and taken for good, an error that
is not ours, motion after a stop that raised nothing: these raise `ViolationError`.
"""

import logging
from collections.abc import Iterator

import numpy as np
import pytest

from bifocus.hal.fault_outcomes import FAMILIES, REQUIRED, Family
from bifocus.hal.fault_plan import FAULT_KINDS, FaultPlan, random_fault_plan
from bifocus.hal.firmware_kinds import FirmwareKind
from tests.soak.outcome_table import OutcomeTable, breach
from tests.soak.rehearsal import SWITCHES, Rehearsal, Story

N_PLANS = 1000  # per protocol
BATCHES = 4
KINDS: dict[Family, tuple[FirmwareKind, ...]] = {
    "sangaboard": ("sangaboard", "sangaboard-v1"),
    "grbl": ("grbl",),
    "marlin": ("marlin",),
    "asi": ("asi", "asi-tiger"),
}
# Strike every fault early, in the middle, and late.
MOMENTS = {
    "line": (0, 3, 7, 12, 20, 31),
    "move": (0, 1, 4),
    "frame": (3, 8, 14),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings about damaged frames are what is wanted here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_the_table_has_every_fault_and_board() -> None:
    assert set(REQUIRED) == set(FAULT_KINDS)
    assert all(set(row) == set(FAMILIES) for row in REQUIRED.values())


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("family", FAMILIES)
def test_random_plans(family: Family, batch: int, outcome_table: OutcomeTable) -> None:
    breaches = []
    for seed in range(batch, N_PLANS, BATCHES):
        rng = np.random.default_rng([seed, 99])
        plan = random_fault_plan(rng)
        kinds = KINDS[family]
        rehearsal = Rehearsal(
            kinds[(seed // BATCHES) % len(kinds)],
            plan,
            seed=seed,
            from_open=bool(rng.random() < 0.2),
            has_switches=family in SWITCHES and bool(rng.random() < 0.2),
        )
        try:
            story = rehearsal.run()
        except Exception as error:
            error.args = (f"{error} [{family}, seed {seed}: {plan.faults}]",)
            raise
        outcome_table.add(story.happened, family, story)
        if len(plan.faults) == 1 and story.happened:
            breaches.append(breach(plan.faults[0].fault, family, story))
    assert [text for text in breaches if text] == []


def moments(fault: str) -> tuple[int, ...]:
    if fault.endswith(("_reply", "_command")):
        return MOMENTS["line"]
    return MOMENTS["frame" if "frame" in fault or "camera" in fault else "move"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", FAULT_KINDS)
def test_each_fault_by_itself(fault: str, family: Family) -> None:
    struck: list[Story] = []
    for kind in KINDS[family]:
        for at in moments(fault):
            plan = FaultPlan.model_validate({"faults": [{"fault": fault, "at": at}]})
            story = Rehearsal(kind, plan, seed=at).run()
            if story.happened:
                struck.append(story)
                assert breach(fault, family, story) is None
    assert struck, "the fault never came to pass"


@pytest.mark.parametrize("kind", ["sangaboard", "marlin"])
@pytest.mark.parametrize(("seed", "at"), [(223, 43), (332, 22), (7, 33)])
def test_damaged_commands_that_once_led_astray(
    kind: FirmwareKind, seed: int, at: int
) -> None:
    # A stage that never came to rest was taken to stand still; a lost line made every
    # later one wrong.
    for fault in ("corrupt_command", "drop_command"):
        plan = FaultPlan.model_validate({"faults": [{"fault": fault, "at": at}]})
        story = Rehearsal(kind, plan, seed=seed).run()
        assert story.happened == {fault}
        if kind == "marlin" and fault == "drop_command":
            assert story.ending == "done"


@pytest.mark.parametrize("family", FAMILIES)
def test_without_faults_all_moves_arrive(family: Family) -> None:
    for kind in KINDS[family]:
        story = Rehearsal(kind, FaultPlan(), seed=1).run()
        assert (story.ending, story.recoveries) == ("done", 0)
        if kind in SWITCHES:
            story = Rehearsal(kind, FaultPlan(), seed=1, has_switches=True).run()
            assert (story.ending, story.recoveries) == ("done", 0)
