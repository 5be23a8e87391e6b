"""What this machine has for a process."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# glibc's malloc.h, by the name of the variable that says the same to a process at its start.
_MALLOC = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}


def cores() -> int:
    """How many CPU cores this process may use; of the machine where the system cannot say (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Paddle runs on one CPU thread unless OMP_NUM_THREADS says otherwise, which must be before it is imported."""
    if "PADDLE_TRAINER_ID" not in os.environ:  # processes that share a machine share its cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def memory(key: str) -> int:
    """Bytes of this process, now ('VmRSS') or at the most so far ('VmHWM'); 0 where there is no /proc, so but on Linux.

    Not `resource.getrusage`, which counts what the process was before its program was loaded: a copy of its parent.
    """
    status = Path("/proc/self/status")
    found = status.is_file() and re.search(rf"{key}:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"))
    return int(found[1]) * 1024 if found else 0


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
