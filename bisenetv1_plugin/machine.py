"""The CPU cores and the memory of this machine, and settings of both for a process."""

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
# A control group's memory limit, its usage, and the lines of memory.stat with cached files, which can be freed.
_GROUP_V2 = ("memory.max", "memory.current", r"^(?:in)?active_file (\d+)$")
_GROUP_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_(?:in)?active_file (\d+)$")
# Environment variables of glibc, each with its option in malloc.h and the value.
_MALLOC = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}


def cores() -> int:
    """The number of CPU cores that this process may use; on macOS and Windows, all cores of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Let Paddle use all cores. Call it before Paddle is imported, which by default uses one thread."""
    if "PADDLE_TRAINER_ID" not in os.environ:  # several training processes share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def process_memory(key: str) -> int:
    """Bytes of memory of this process, now ('VmRSS') or at its peak ('VmHWM'); 0 on systems other than Linux.

    `resource.getrusage` would be wrong: it includes the time before exec, when the process was a copy of its parent.
    """
    status = Path("/proc/self/status")
    found = status.is_file() and re.search(rf"{key}:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else 0


def available_memory() -> int | None:
    """Bytes that this process may use in all: what it has, and what the machine and its control groups have free.

    Swap counts as free. None on systems other than Linux.
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
    """Free bytes in each control group of this process and in its parents, which limit a container."""
    with suppress(OSError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            limit, used, files = _GROUP_V1 if controllers else _GROUP_V2
            top = GROUPS / controllers
            # In a container the path may be the host's, of which only the end, or nothing, exists here.
            folder = top / path.lstrip("/")
            for group in (folder, *folder.parents):
                with suppress(OSError, ValueError):  # no limit ("max"), or no such file
                    free = int((group / limit).read_text()) - int((group / used).read_text())
                    stat = (group / "memory.stat").read_text()
                    yield free + sum(map(int, re.findall(files, stat, re.MULTILINE)))
                if group == top:
                    break


def use_amd_vectors() -> None:
    """Let the MKL in Paddle's wheels use AVX2 on AMD's processors. Call it before Paddle is imported.

    5 is MKL's number for AVX2. The user's own setting stays. It works only on Linux, which has /proc/cpuinfo.
    """
    if not CPUINFO.is_file():
        return
    words = set(CPUINFO.read_text().split())
    if {"AuthenticAMD", "avx2", "fma"} <= words:
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def reuse_memory() -> None:
    """Let glibc keep freed memory for later use, in this process and its children.

    By default glibc returns large blocks to the system. Each run of a network then allocates the same blocks again, at
    a cost of microseconds per page. The user's own settings of malloc stay.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
    for name, (option, value) in _MALLOC.items():
        os.environ[name] = str(value)
        if mallopt:
            mallopt(option, value)
