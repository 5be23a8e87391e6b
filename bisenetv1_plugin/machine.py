"""What this machine has for a process."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Iterator

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
# The files of a control group: its limit, what it holds, and what of that are files, which the system gives away.
_GROUP_V2 = ("memory.max", "memory.current", r"^(?:in)?active_file (\d+)$")
_GROUP_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_(?:in)?active_file (\d+)$")
# glibc's malloc.h, by the name of the variable that says the same to a process at its start.
_MALLOC = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}


def cores() -> int:
    """How many CPU cores this process may use; of the machine where the system cannot say (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Paddle runs on one CPU thread unless OMP_NUM_THREADS says otherwise, which must be before it is imported."""
    if "PADDLE_TRAINER_ID" not in os.environ:  # processes that share a machine share its cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def process_memory(key: str) -> int:
    """Bytes of this process, now ('VmRSS') or at the most so far ('VmHWM'); 0 where there is no /proc, so but on Linux.

    Not `resource.getrusage`, which counts what the process was before its program was loaded: a copy of its parent.
    """
    status = Path("/proc/self/status")
    found = status.is_file() and re.search(rf"{key}:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else 0


def available_memory() -> int | None:
    """Bytes that this process may have in all: what it has, and what the machine and its control groups have free.

    Swap counts as free. None where there is no /proc/meminfo, so but on Linux.
    """
    if not MEMINFO.is_file():
        return None
    found = {key: int(kilobytes) << 10 for key, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", MEMINFO.read_text())}
    if "MemAvailable" not in found:
        return None
    free = [found["MemAvailable"], *_free_in_control_groups()]
    at_hand = min(free) + found.get("SwapFree", 0)
    import resource  # Windows has none

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:  # `ulimit -v`
        at_hand = min(at_hand, most - process_memory("VmSize"))
    return max(at_hand, 0) + process_memory("VmRSS")


def _free_in_control_groups() -> Iterator[int]:
    """Bytes that the control groups of this process, and those that they are in, have free: a container's limit."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            limit, used, files = _GROUP_V1 if controllers else _GROUP_V2
            top = GROUPS / controllers
            # In a container the path may be the machine's, of which only the end, or nothing, is to be seen.
            folder = top / path.lstrip("/")
            for group in (folder, *folder.parents):
                with suppress(OSError, ValueError):  # "max", or none of these
                    free = int((group / limit).read_text()) - int((group / used).read_text())
                    stat = (group / "memory.stat").read_text()
                    yield free + sum(map(int, re.findall(files, stat, re.MULTILINE)))
                if group == top:
                    break


def use_amd_vectors() -> None:
    """The MKL in Paddle's wheels leaves AVX2 unused on AMD's processors unless told, before Paddle is imported.

    5 is its number for AVX2; the user's own setting stays. Only on Linux, where /proc/cpuinfo says what the processor
    has.
    """
    if not CPUINFO.is_file():
        return
    words = set(CPUINFO.read_text().split())
    if {"AuthenticAMD", "avx2", "fma"} <= words:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def reuse_memory() -> None:
    """Have glibc keep what is freed for the next run, and for those of the processes that are started from here.

    By default it hands large blocks back to the system, and a run of a network, or a step of its training, takes the
    same ones again: every page anew, at some microseconds. The user's own settings of malloc stay.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    for name, (option, value) in _MALLOC.items():
        os.environ[name] = str(value)
        if mallopt:
            mallopt(option, value)
