"""One thread or all: whichever was faster when both were tried a moment ago.

Two threads pass over a model's weights up to 1.7 times as fast as one, on an idle machine. Beside other work each waits
for the slower one in every product, and a pass takes 2 to 14 times as long as on one thread. No rule on sizes
knows which it will be; and where results do not depend on it to the last bit, time may decide.
"""

from __future__ import annotations

TRIALS = (False, False, False, True, True)  # alone? The first one wakes the other threads up and does not count
SHORTEST, LONGEST = 64, 1024  # passes from one round of trials to the next; twice as many each time nothing has changed
WORTH = 1.1  # times as fast: for less, all threads are not taken from other work
SLOW = 2.0  # times the seconds of the trial: then a neighbour has come


class ThreadTrials:
    """Of passes of like size."""

    def __init__(self) -> None:
        self._faster_alone = False
        self._tried = 0  # of TRIALS
        self._seconds = {False: 0.0, True: 0.0}  # that the trials of each kind took together
        self._period = SHORTEST // 2
        self._rest = 0

    @property
    def alone(self) -> bool:
        """Whether the next pass is to take one thread."""
        return TRIALS[self._tried] if self._tried < len(TRIALS) else self._faster_alone

    def took(self, alone: bool, seconds: float) -> None:
        """The next pass has ended; the seconds of each of its tokens."""
        if self._tried < len(TRIALS):
            self._seconds[alone] += seconds if self._tried > 0 else 0.0
            self._tried += 1
            if self._tried == len(TRIALS):
                self._decide()
            return
        self._rest -= 1
        if self._rest <= 0 or (not alone and seconds > SLOW * self._seconds[False] / 2):
            self._seconds, self._tried = {False: 0.0, True: 0.0}, 0

    def _decide(self) -> None:
        faster_alone = self._seconds[True] < WORTH * self._seconds[False]
        self._period = min(2 * self._period, LONGEST) if faster_alone == self._faster_alone else SHORTEST
        self._faster_alone, self._rest = faster_alone, self._period
