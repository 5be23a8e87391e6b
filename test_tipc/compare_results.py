"""Compare the verdict of a TIPC chain with a stored one; the exit code is 1 if they differ.

    python test_tipc/compare_results.py --gt_file test_tipc/results/NAME.json \\
        --log_file test_tipc/output/bisenetv1/lite_train_lite_infer/verdict.json

The chain must have passed. The number of images, mIoU, IoU and Acc of every class are compared for each run.
"""

import argparse
import itertools
import json
import math
import os
import sys

FIGURES = ("images", "predict_miou", "miou", "class_iou", "class_acc")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gt_file", required=True, help="the stored result")
    parser.add_argument("--log_file", required=True, help="the verdict.json to check")
    parser.add_argument("--atol", type=float, default=1e-3, help="tolerance, default 1e-3")
    parser.add_argument("--rtol", type=float, default=1e-3, help="relative tolerance, default 1e-3")
    args = parser.parse_args()
    stored, log = read(args.gt_file), read(args.log_file)
    if not stored["results"]:
        sys.exit(f"{args.gt_file} has no result.")
    faults = [] if log["passed"] else ["the chain did not pass."]
    faults += differences(stored["results"], log["results"], args.atol, args.rtol)
    for fault in faults:
        print(f"{args.log_file}: {fault}")
    if not faults:
        print(f"{args.log_file}: equal to {args.gt_file} within atol {args.atol:g}, rtol {args.rtol:g}")
    return 1 if faults else 0


def read(path):
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("not a file")
        with open(path, encoding="utf-8") as file:
            verdict = json.load(file)
        for run in verdict["results"]:
            if not isinstance(run["name"], str) or not all(map(is_figure, (run[figure] for figure in FIGURES))):
                raise ValueError("figures that are not numbers")
        return {"passed": verdict["passed"] is True, "results": verdict["results"]}
    except OSError as error:
        reason = error.strerror
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    sys.exit(f"{path} cannot be read ({reason}): it is the verdict.json of a chain, or a copy of one.")


def is_figure(value):
    """Tell whether a value is a number, None, or a list of these."""
    if isinstance(value, list):
        return all(map(is_figure, value))
    return value is None or isinstance(value, (int, float))


def differences(stored, log, atol, rtol):
    """Return a sentence for every different figure and every missing run."""
    expected, found = ({run["name"]: run for run in runs} for runs in (stored, log))
    faults = [f"the stored run {name} is missing." for name in expected if name not in found]
    for name, figure in itertools.product(expected.keys() & found.keys(), FIGURES):
        a, b = expected[name][figure], found[name][figure]
        if not close(a, b, atol, rtol):
            faults.append(f"{figure} of {name} is {b}, stored is {a}.")
    return faults


def close(a, b, atol, rtol):
    """Compare two figures, or two lists of them; None is never close."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(close(*pair, atol, rtol) for pair in zip(a, b))
    return None not in (a, b) and math.isclose(a, b, abs_tol=atol, rel_tol=rtol)


if __name__ == "__main__":
    sys.exit(main())
