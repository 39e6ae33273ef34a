"""`make faults`: ENOSPC and EIO at each write of the store, once and from then on; prints a table."""

import argparse
import logging
import os
import sys

import structlog

from suites.faults.sweep import reference, run, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each Nth point only")
    parser.add_argument(
        "--only", default="", metavar="CALL:N[+]:ERROR", help="try one point, as it is reported"
    )
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    expected, points = reference()
    chosen = [point for point in points if options.only in ("", str(point))]
    results = run(chosen[:: options.every], expected, os.cpu_count() or 1)
    promises = sum(result.point.promises for result in results)
    sys.stdout.write(f"{table(results)}\n{len(results)} points, {promises} of them at what is promised\n")
    for result in results:
        sys.stdout.writelines(f"{result.point}: {wrong}\n" for wrong in result.wrong)
    return any(result.wrong for result in results) or not results


if __name__ == "__main__":
    sys.exit(main())
