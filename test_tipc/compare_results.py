"""Compare the verdicts of TIPC chains with stored ones: an exit code of 1 where they differ.

    python test_tipc/compare_results.py \\
        --gt_file 'test_tipc/results/*.json' --log_file 'test_tipc/output/*/*/verdict.json'

The files are compared in the order of their names, run by run: number of images, mIoU, IoU and Acc of every class.
"""

import argparse
import glob
import itertools
import json
import math
import sys

FIGURES = ("images", "predict_miou", "miou", "class_iou", "class_acc")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gt_file", required=True, help="pattern of the stored results")
    parser.add_argument("--log_file", required=True, help="pattern of the results to check")
    parser.add_argument("--atol", type=float, default=1e-3, help="tolerance, default 1e-3")
    parser.add_argument("--rtol", type=float, default=1e-3, help="relative tolerance, default 1e-3")
    args = parser.parse_args()
    stored, logs = sorted(glob.glob(args.gt_file)), sorted(glob.glob(args.log_file))
    if not stored or len(stored) != len(logs):
        sys.exit(f"{args.gt_file} matches {len(stored)} files and {args.log_file} {len(logs)}: they must be as many.")
    faults = [fault for pair in zip(stored, logs) for fault in differences(*pair, args.atol, args.rtol)]
    print("\n".join(faults) or f"{len(logs)} compared: equal within atol {args.atol:g}, rtol {args.rtol:g}")
    return 1 if faults else 0


def differences(stored, log, atol, rtol):
    """A sentence for every figure that differs, or for what is missing."""
    with open(stored, encoding="utf-8") as one, open(log, encoding="utf-8") as other:
        expected, found = ({run["name"]: run for run in json.load(file)["results"]} for file in (one, other))
    if not expected:
        return [f"{stored} holds no result."]
    faults = [f"{log}: the run {name} of {stored} is missing." for name in expected if name not in found]
    for name, figure in itertools.product(expected.keys() & found.keys(), FIGURES):
        a, b = expected[name][figure], found[name][figure]
        if not close(a, b, atol, rtol):
            faults.append(f"{log}: {figure} of {name} is {b}, stored is {a}.")
    return faults


def close(a, b, atol, rtol):
    """Two figures, or two lists of them; a missing one is close to nothing."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(close(*pair, atol, rtol) for pair in zip(a, b))
    return None not in (a, b) and math.isclose(a, b, abs_tol=atol, rel_tol=rtol)


if __name__ == "__main__":
    sys.exit(main())
