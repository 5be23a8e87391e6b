"""What this machine has for a process."""

import os


def cores() -> int:
    """How many CPU cores this process may use; of the machine where the system cannot say (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Paddle runs on one CPU thread unless OMP_NUM_THREADS says otherwise, which must be before it is imported."""
    if "PADDLE_TRAINER_ID" not in os.environ:  # processes that share a machine share its cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
