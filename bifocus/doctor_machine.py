"""The computer: disk at the output, memory and swap, clocks, sleep, and power."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bifocus.diagnosis import Diagnosis, Machine

_TRIAL_BYTES = 32 << 20
_LEAST_MB_PER_S = 20.0  # a pair of 5 Mpx shots a second is about that, as PNG
_LEAST_FREE_MB = 2000.0
_PEAK_MB = 600.0  # of a scan with the largest tiles, by bench
_COARSE_S = 1e-3
_RTC_OFF_S = 120.0
_SLEPT_S = 1.0
_NETWORK_FILES = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """The file system of the output folder; speed by writing and syncing a trial."""

    folder: str
    free_mb: float
    write_mb_per_s: float
    file_system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFacts:
    """The clocks of this machine; `ntp_synced` is None where nobody tells.

    `awake_s` counts only while the machine runs, `since_boot_s` also while it sleeps.
    """

    resolution_s: float
    ntp_synced: bool | None
    now_unix_s: float
    awake_s: float
    since_boot_s: float


def measure_disk(folder: Path, machine: Machine) -> DiskFacts:
    """Write 32 MB into the folder, wait until the disk has them, and remove them.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    trial = folder / ".bifocus-speed-trial"
    content = os.urandom(1 << 20)
    start_s = time.monotonic()
    try:
        with trial.open("wb") as stream:
            for _ in range(_TRIAL_BYTES >> 20):
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        trial.unlink(missing_ok=True)
    seconds = max(time.monotonic() - start_s, 1e-6)
    status = os.statvfs(folder)
    return DiskFacts(
        folder=str(folder),
        free_mb=status.f_bavail * status.f_frsize / 1e6,
        write_mb_per_s=_TRIAL_BYTES / 1e6 / seconds,
        file_system=file_system_of(folder, machine.text("/proc/mounts") or ""),
    )


def file_system_of(folder: Path, mounts: str) -> str:
    """Return the kind of file system that holds a folder, by `/proc/mounts`.

    Examples
    --------
    >>> mounts = "/dev/sda1 / ext4 rw 0 0" + chr(10) + "nas:/x /data nfs4 rw 0 0"
    >>> file_system_of(Path("/data/scans"), mounts)
    'nfs4'
    """
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3 or len(fields[1]) < len(best):
            continue
        if folder.resolve().is_relative_to(fields[1]):
            best, kind = fields[1], fields[2]
    return kind


def read_clocks(machine: Machine) -> ClockFacts:
    """Return what this machine's clocks say now."""
    synced: bool | None = None
    if machine.exists("/run/systemd/timesync"):
        synced = machine.exists("/run/systemd/timesync/synchronized")
    return ClockFacts(
        resolution_s=time.get_clock_info("monotonic").resolution,
        ntp_synced=synced,
        now_unix_s=time.time(),
        awake_s=time.clock_gettime(time.CLOCK_MONOTONIC),
        since_boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def diagnose_disk(disk: DiskFacts, needed_mb: float | None) -> Iterator[Diagnosis]:
    """Yield room, speed and kind of the output's disk; `needed_mb` is one scan's."""
    wanted_mb = max(2 * (needed_mb or 0.0), _LEAST_FREE_MB)
    has_room = disk.free_mb >= wanted_mb
    yield Diagnosis(
        topic="disk",
        name="free space",
        state="ok" if has_room else "fail",
        found=f"{disk.free_mb / 1e3:.1f} GB free in {disk.folder}",
        advice=""
        if has_room
        else f"make room for {wanted_mb / 1e3:.1f} GB (twice a scan), or name another "
        "folder with --out",
    )
    is_fast = disk.write_mb_per_s >= _LEAST_MB_PER_S
    yield Diagnosis(
        topic="disk",
        name="write speed",
        state="ok" if is_fast else "warn",
        found=f"{disk.write_mb_per_s:.0f} MB/s, synced",
        advice="" if is_fast else "write to an SSD on USB 3, not to a memory card",
    )
    if disk.file_system in ("vfat", "msdos"):
        advice = "format it as ext4 or exFAT; a slide may be larger"
        found = f"{disk.file_system} holds no file over 4 GB"
    elif disk.file_system in _NETWORK_FILES:
        advice = "scan to a local disk and copy the slide afterwards"
        found = f"{disk.file_system}: the journal is not safe on a network folder"
    elif disk.file_system in ("tmpfs", "ramfs", "overlay"):
        advice = "name a folder on a disk with --out"
        found = f"{disk.file_system} is gone after a restart"
    else:
        return
    state = "fail" if disk.file_system in ("vfat", "msdos") else "warn"
    yield Diagnosis(
        topic="disk",
        name="file system",
        state="fail" if state == "fail" else "warn",
        found=found,
        advice=advice,
    )


def diagnose_memory(machine: Machine) -> Iterator[Diagnosis]:
    """Yield free memory, and swap that would wear a memory card out."""
    available_mb = _available_mb(machine)
    if available_mb is not None:
        is_enough = available_mb >= _PEAK_MB
        yield Diagnosis(
            topic="memory",
            name="memory",
            state="ok" if is_enough else "fail",
            found=f"{available_mb:.0f} MB available",
            advice=""
            if is_enough
            else f"a scan needs {_PEAK_MB:.0f} MB: close other programs, raise the "
            "container's limit, or take a smaller camera mode",
        )
    for line in (machine.text("/proc/swaps") or "").splitlines()[1:]:
        fields = line.split()
        if fields and "mmcblk" in fields[0]:
            yield Diagnosis(
                topic="memory",
                name="swap",
                state="warn",
                found=f"swap lies on the memory card {fields[0]}",
                advice="it is slow and wears the card out: use zram, or an SSD",
            )


def diagnose_clocks(clocks: ClockFacts, machine: Machine) -> Iterator[Diagnosis]:
    """Yield resolution, sync, the battery clock, and whether the machine sleeps."""
    is_fine = clocks.resolution_s <= _COARSE_S
    yield Diagnosis(
        topic="clock",
        name="monotonic clock",
        state="ok" if is_fine else "fail",
        found=f"resolution {1e9 * clocks.resolution_s:.0f} ns",
        advice="" if is_fine else "the kernel lacks high resolution timers",
    )
    if clocks.ntp_synced is False:
        yield Diagnosis(
            topic="clock",
            name="time of day",
            state="warn",
            found="not synchronised: dates in slides may be wrong",
            advice="connect the network, or sudo timedatectl set-ntp true",
        )
    yield _battery_clock(clocks, machine)
    slept_s = clocks.since_boot_s - clocks.awake_s
    if slept_s > _SLEPT_S:
        yield Diagnosis(
            topic="clock",
            name="sleep",
            state="warn",
            found=f"this machine has slept for {slept_s:.0f} s since it was started; "
            "a scan would stand still",
            advice="sudo systemctl mask sleep.target suspend.target",
        )


def diagnose_power(machine: Machine) -> Iterator[Diagnosis]:
    """Yield a processor held slow, and the under-voltage of a Raspberry Pi."""
    governor = machine.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor == "powersave" and not machine.exists(
        "/sys/devices/system/cpu/intel_pstate"  # there the name means something else
    ):
        yield Diagnosis(
            topic="power",
            name="processor",
            state="warn",
            found="the governor 'powersave' holds it at its lowest speed",
            advice="sudo cpupower frequency-set -g schedutil",
        )
    flags = machine.text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if flags and int(flags, 16) & 0x10001:
        yield Diagnosis(
            topic="power",
            name="Raspberry Pi",
            state="warn",
            found=f"its supply voltage has been too low (get_throttled {flags})",
            advice="use the official power supply; motors need one of their own",
        )


def _battery_clock(clocks: ClockFacts, machine: Machine) -> Diagnosis:
    text = machine.text("/sys/class/rtc/rtc0/since_epoch")
    if text is None:
        return Diagnosis(
            topic="clock",
            name="battery clock",
            state="info",
            found="none: without a network the date is wrong after a power cut",
        )
    off_s = abs(int(text) - clocks.now_unix_s)
    is_right = off_s <= _RTC_OFF_S
    return Diagnosis(
        topic="clock",
        name="battery clock",
        state="ok" if is_right else "warn",
        found=f"{off_s:.0f} s off the time of day",
        advice="" if is_right else "sudo hwclock --systohc, or change its battery",
    )


def _available_mb(machine: Machine) -> float | None:
    """Return what may still be taken: of the machine, or of the container."""
    rooms_mb = []
    for line in (machine.text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            rooms_mb.append(float(line.split()[1]) * 1024 / 1e6)
    limit = machine.text("/sys/fs/cgroup/memory.max")
    used = machine.text("/sys/fs/cgroup/memory.current")
    if limit and used and limit != "max":
        rooms_mb.append((float(limit) - float(used)) / 1e6)
    return min(rooms_mb, default=None)
