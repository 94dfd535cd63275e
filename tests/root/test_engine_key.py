"""An engine of another machine is refused, each difference named, with the way out."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from bifocus.cuda_device import CudaDevice
from bifocus.engine_key import (
    ANY_RTX,
    EngineKey,
    check_built_here,
    differences,
    machine_facts,
)
from bifocus.errors import EngineError

ORIN = CudaDevice(
    name="NVIDIA Orin",
    compute_capability="8.7",
    driver="CUDA 12.6",
    is_integrated=True,
    total_bytes=8 << 30,
    free_bytes=6 << 30,
)
PLAIN: Any = SimpleNamespace(__version__="10.3.0")
RTX: Any = SimpleNamespace(__version__="1.7.1.116", ComputeCapability=object())


def make_key(**changes: str) -> EngineKey:
    facts = machine_facts(PLAIN, ORIN)
    values = {"graph_sha256": "ab", "profile": "1x64x64", "options": "fp16, level 3"}
    return EngineKey(**{**facts, **values, **changes})


def test_timings_are_shared_by_builds_on_one_machine_only() -> None:
    same = {"graph_sha256", "profile", "options"}
    for field in dataclasses.fields(EngineKey):
        other = make_key(**{field.name: "other"})
        is_same = other.machine_digest == make_key().machine_digest
        assert is_same == (field.name in same), field.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"driver": "CUDA 13.0"}, "the driver was CUDA 13.0 and is CUDA 12.6"),
        ({"tensorrt": "tensorrt 10.16.1"}, "TensorRT was tensorrt 10.16.1 and is"),
        ({"compute_capability": "8.9"}, "its compute capability was 8.9 and is 8.7"),
        ({"device": ""}, "the GPU was not told and is NVIDIA Orin"),
    ],
)
def test_each_difference_is_one_clause_with_the_command(
    change: dict[str, str], words: str
) -> None:
    kept = make_key(**change).built_with()
    assert "graph_sha256" not in kept
    manifest: Any = SimpleNamespace(
        built_with=kept, main_file="base.engine", export_command="bifocus export x"
    )
    with pytest.raises(EngineError, match=words) as caught:
        check_built_here(manifest, PLAIN, ORIN)
    assert str(caught.value).endswith("Mend: bifocus export x")


def test_an_engine_of_this_machine_passes_whatever_else_is_noted() -> None:
    kept = {**make_key().built_with(), "seconds": "31"}
    manifest: Any = SimpleNamespace(built_with=kept)
    check_built_here(manifest, PLAIN, ORIN)
    assert differences(kept, machine_facts(PLAIN, ORIN)) == []


def test_rtx_builds_for_a_gpu_that_is_not_here_and_the_others_do_not() -> None:
    assert machine_facts(RTX, None) == machine_facts(RTX, ORIN)
    assert machine_facts(RTX, None)["device"] == ANY_RTX
    with pytest.raises(EngineError, match="only on the GPU that is to run"):
        machine_facts(PLAIN, None)
