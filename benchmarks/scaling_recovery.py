"""Synthetic scaling studies with known laws: bias and coverage of every method, as a Markdown table.

    python benchmarks/scaling_recovery.py [--studies 300] [--draws 400] [--processes 2]

Studies are shared evenly among three grids of sizes and two levels of noise; half have the runs of depths 6 to 14 at
1e18 to 6e18 FLOPs, half seven sizes twice at 1e18 to 3e19. A 95% interval should hold the truth in 95 of 100.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import time

from scaling.recovery import GRIDS, NOISES, Outcome, study_outcomes, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()

    conditions = list(itertools.product(GRIDS, NOISES))
    tasks = [(number // len(conditions), *conditions[number % len(conditions)], arguments.draws)
             for number in range(arguments.studies)]  # fmt: skip
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        outcomes: list[Outcome] = list(itertools.chain(*pool.starmap(study_outcomes, tasks, chunksize=5)))
    print(table(outcomes))
    print(f"\n{arguments.studies} studies, {arguments.draws} draws each, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
