"""Measure the cost of the start-up hook: python tests/benchmarks/startup.py

Prints the median time over 50 starts for the plugin's modules (-X importtime, self), and its share of a whole start.
"""

import re
import statistics
import subprocess
import sys
import time

STARTS = 50


def self_cost():
    """Return the milliseconds that a start spends in the plugin's modules."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], stderr=subprocess.PIPE, text=True, check=True
    )
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(bisenetv1_plugin\S*)", done.stderr)
    if not lines:
        sys.exit("The hook is not installed in this environment.")
    return sum(int(microseconds) for microseconds, _ in lines) / 1000


def whole_start(*flags):
    started = time.perf_counter()
    subprocess.run([sys.executable, *flags, "-c", "pass"], check=True)
    return (time.perf_counter() - started) * 1000


costs = [self_cost() for _ in range(STARTS)]
starts = [whole_start() for _ in range(STARTS)]
print(f"self cost of the hook: median {statistics.median(costs):.3f} ms (min {min(costs):.3f}, max {max(costs):.3f})")
print(
    f"a whole start: median {statistics.median(starts):.1f} ms, of which the hook is "
    f"{statistics.median(costs) / statistics.median(starts):.1%}"
)
