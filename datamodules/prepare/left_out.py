"""The account of what is left out: counted by reason, the first few of each shown with their place, or a stop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

from datamodules.prepare.batches import HARMLESS, Problem
from vnc.errors import UserError

SHOWN = 3


class LeftOut:
    """Counts of a preparation so far, from `counts` on. With `stop`, anything broken ends it."""

    def __init__(self, stop: bool, counts: dict[str, int] | None = None) -> None:
        self.stop, self.counts = stop, Counter(counts or {})
        self._broken: list[Problem] = []
        self._said: Counter[str] = Counter()

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.counts[problem.reason] += 1
            if problem.reason in HARMLESS:
                continue
            if self.stop:
                self._broken.append(problem)
            elif self._said[problem.reason] < SHOWN:
                self._said[problem.reason] += 1
                print(f"left out: {_line(problem)}", file=sys.stderr)
                if self._said[problem.reason] == SHOWN:
                    print(f"left out: more with '{problem.reason}' are counted, not shown", file=sys.stderr)

    @property
    def broken(self) -> bool:
        """Whether the preparation must stop at the end of this file."""
        return bool(self._broken)

    def refuse(self, shown: str) -> None:
        """UserError when something of the file `shown` cannot be used and the user wants to stop then."""
        if not self._broken:
            return
        first = "; ".join(_line(problem) for problem in self._broken[:SHOWN])
        many = len(self._broken)
        said = first if many == 1 else f"{shown}: {many:,} things in it cannot be used: {first}"
        raise UserError(f"{said}{' ...' * (many > SHOWN)}; mend it, or leave such things out with --on_error skip")

    def summary(self) -> str:
        """ ", 12 left out (10 empty, 2 broken JSON)", or nothing."""
        if not self.counts.total():
            return ""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.counts.items()))
        return f", {self.counts.total():,} left out ({reasons})"


def _line(problem: Problem) -> str:
    detail = f" ({' '.join(problem.detail.split())[:160]})" if problem.detail else ""
    return f"{problem.where}: {problem.reason}{detail}"
