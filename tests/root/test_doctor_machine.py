"""The doctor's eyes on disk, memory, clocks, power and the Jetson."""

from pathlib import Path

import pytest

from bifocus.diagnosis import Diagnosis, Machine
from bifocus.doctor_jetson import diagnose_jetson, jetson_model
from bifocus.doctor_machine import (
    ClockFacts,
    DiskFacts,
    diagnose_clocks,
    diagnose_disk,
    diagnose_memory,
    diagnose_power,
    file_system_of,
    measure_disk,
    read_clocks,
)
from tests.root.machines import machine, states, the

NVPMODEL = """
< POWER_MODEL ID=0 NAME=15W >
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
"""


def disk(**changes: object) -> DiskFacts:
    facts = {
        **{"folder": "/data", "free_mb": 50e3, "write_mb_per_s": 200.0},
        **{"file_system": "ext4"},
        **changes,
    }
    return DiskFacts(**facts)  # type: ignore[arg-type]


def clocks(**changes: object) -> ClockFacts:
    facts = {
        **{"resolution_s": 1e-9, "ntp_synced": True, "now_unix_s": 1.8e9},
        **{"awake_s": 100.0, "since_boot_s": 100.0},
        **changes,
    }
    return ClockFacts(**facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "needed_mb", "name", "state"),
    [
        (disk(), 100.0, "free space", "ok"),
        (disk(free_mb=5e3), 3000.0, "free space", "fail"),
        (disk(free_mb=500.0), None, "free space", "fail"),
        (disk(write_mb_per_s=6.0), None, "write speed", "warn"),
        (disk(file_system="vfat"), None, "file system", "fail"),
        (disk(file_system="nfs4"), None, "file system", "warn"),
        (disk(file_system="tmpfs"), None, "file system", "warn"),
    ],
)
def test_disks(
    facts: DiskFacts, needed_mb: float | None, name: str, state: str
) -> None:
    row = the(list(diagnose_disk(facts, needed_mb)), name)
    assert row.state == state
    assert bool(row.advice) == (state != "ok")


def test_the_disk_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    facts = measure_disk(tmp_path, Machine())
    assert facts.free_mb > 0
    assert facts.write_mb_per_s > 0
    assert not list(tmp_path.iterdir())


def test_a_disk_that_cannot_be_written_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        measure_disk(tmp_path / "nowhere", Machine())


def test_the_deepest_mount_counts() -> None:
    mounts = "a / ext4 rw\nb /media vfat rw\nc /media/usb exfat rw\nbad\n"
    assert file_system_of(Path("/media/usb/scans"), mounts) == "exfat"
    assert file_system_of(Path("/mediation"), mounts) == "ext4"


@pytest.mark.parametrize(
    ("available_kb", "limit", "state"),
    [(4_000_000, "max", "ok"), (300_000, "max", "fail"), (4_000_000, "4e8", "fail")],
)
def test_memory_of_the_machine_and_of_the_container(
    tmp_path: Path, available_kb: int, limit: str, state: str
) -> None:
    facts = machine(
        tmp_path,
        {
            "/proc/meminfo": f"MemTotal: 8000000 kB\nMemAvailable: {available_kb} kB\n",
            "/sys/fs/cgroup/memory.max": limit,
            "/sys/fs/cgroup/memory.current": "1e8",
        },
    )
    assert states(list(diagnose_memory(facts))) == {"memory": state}


def test_swap_on_a_memory_card_is_warned_of(tmp_path: Path) -> None:
    facts = machine(
        tmp_path,
        {
            "/proc/swaps": "Filename Type Size Used Priority\n"
            "/dev/zram0 partition 1 0 5\n/dev/mmcblk0p3 partition 1 0 -2\n"
        },
    )
    (row,) = diagnose_memory(facts)
    assert row.state == "warn"
    assert "mmcblk0p3" in row.found


@pytest.mark.parametrize(
    ("facts", "name", "state"),
    [
        (clocks(), "monotonic clock", "ok"),
        (clocks(resolution_s=0.01), "monotonic clock", "fail"),
        (clocks(ntp_synced=False), "time of day", "warn"),
        (clocks(), "battery clock", "info"),
        (clocks(since_boot_s=4000.0), "sleep", "warn"),
    ],
)
def test_clocks(tmp_path: Path, facts: ClockFacts, name: str, state: str) -> None:
    rows = list(diagnose_clocks(facts, Machine(root=tmp_path)))
    assert the(rows, name).state == state


def test_a_machine_that_never_slept_and_is_in_time_says_little(tmp_path: Path) -> None:
    rows = list(diagnose_clocks(clocks(ntp_synced=None), Machine(root=tmp_path)))
    assert set(states(rows)) == {"monotonic clock", "battery clock"}


@pytest.mark.parametrize(("off_s", "state"), [(3, "ok"), (86400, "warn")])
def test_the_battery_clock(tmp_path: Path, off_s: int, state: str) -> None:
    facts = machine(
        tmp_path, {"/sys/class/rtc/rtc0/since_epoch": str(1_800_000_000 - off_s)}
    )
    rows = list(diagnose_clocks(clocks(), facts))
    assert the(rows, "battery clock").state == state


def test_the_clocks_of_this_machine_can_be_read() -> None:
    now = read_clocks(Machine())
    assert 0 < now.resolution_s < 1e-3
    assert now.since_boot_s >= now.awake_s - 1.0


def power(tmp_path: Path, files: dict[str, str]) -> list[Diagnosis]:
    return list(diagnose_power(machine(tmp_path, files)))


def test_a_processor_held_slow(tmp_path: Path) -> None:
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    (row,) = power(tmp_path, {governor: "powersave\n"})
    assert (row.state, "schedutil" in row.advice) == ("warn", True)
    pstate = "/sys/devices/system/cpu/intel_pstate/status"
    assert power(tmp_path, {pstate: "active"}) == []


@pytest.mark.parametrize(("flags", "n_rows"), [("50005", 1), ("0", 0), ("50000", 1)])
def test_a_raspberry_pi_with_too_low_a_voltage(
    tmp_path: Path, flags: str, n_rows: int
) -> None:
    throttled = "/sys/devices/platform/soc/soc:firmware/get_throttled"
    assert len(power(tmp_path, {throttled: flags})) == n_rows


def jetson(tmp_path: Path, release: str, **files: str) -> list[Diagnosis]:
    facts = {
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "/etc/nv_tegra_release": release,
        "/proc/meminfo": "MemTotal: 7800000 kB\nSwapTotal: 3900000 kB\n",
        "/proc/swaps": "Filename Type\n/dev/zram0 partition\n/swapfile file\n",
        "/etc/nvpmodel.conf": NVPMODEL,
        **{name.replace("__", "/"): text for name, text in files.items()},
    }
    return list(diagnose_jetson(machine(tmp_path, facts)))


@pytest.mark.parametrize(
    ("release", "state", "word"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic", "ok", "10.3"),
        ("# R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic", "warn", "8.6"),
        (
            "# R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref",
            "fail",
            "JetPack 5",
        ),
        ("# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic", "ok", "JetPack 7"),
        ("nonsense", "warn", "cannot be read"),
    ],
)
def test_jetpack_by_its_release(
    tmp_path: Path, release: str, state: str, word: str
) -> None:
    row = jetson(tmp_path, release)[0]
    assert (row.name, row.state) == ("NVIDIA Jetson Orin Nano Developer Kit", state)
    assert word in row.found


@pytest.mark.parametrize(("mode", "state"), [(0, "warn"), (2, "ok")])
def test_the_power_mode(tmp_path: Path, mode: int, state: str) -> None:
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    status = tmp_path / "var/lib/nvpmodel/status"
    status.write_text(f"pmode:{mode:04d} fmode:fanNull", encoding="utf-8")
    row = the(jetson(tmp_path, "# R36 (release), REVISION: 4.3"), "power mode")
    assert row.state == state
    if state == "warn":
        assert "nvpmodel -m 2" in row.advice


def test_a_small_jetson_without_swap(tmp_path: Path) -> None:
    release = "# R36 (release), REVISION: 4.3"
    assert "swap" not in states(jetson(tmp_path, release))
    only_zram = "Filename Type\n/dev/zram0 partition\n"
    rows = jetson(tmp_path, release, __proc__swaps=only_zram)
    assert the(rows, "swap").state == "warn"


def test_any_other_machine_is_no_jetson(tmp_path: Path) -> None:
    pi = machine(tmp_path, {"/proc/device-tree/model": "Raspberry Pi 5 Model B\0"})
    assert jetson_model(pi) == ""
    assert list(diagnose_jetson(pi)) == []
