"""What a sweep shows while it goes on: one table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.sweep_progress import Progress
from scaling.sweep_runner import Entry, State

COLOURS: dict[State, str] = {
    "waiting": "dim", "queued": "blue", "running": "cyan", "finished": "green", "interrupted": "yellow", "failed": "red"
}  # fmt: skip
LINE_SECONDS = 30.0
PIPE_WIDTH = 120
HEADER_LINES = 4  # of the table: headings, and the summary below, which may need two
UNDECIDED: tuple[State, ...] = ("waiting", "queued", "running", "interrupted")


@dataclass(frozen=True)
class Totals:
    """Over all runs of a sweep."""

    states: Counter[State]
    flops: float
    planned_flops: float
    hours: float
    """Of devices."""
    seconds_left: float | None
    """None until a run has told how fast it goes."""


def totals(entries: Sequence[Entry], slots: int) -> Totals:
    """The sum of all runs. What is left is estimated by FLOPs, at the speed of the runs so far; whatever runs side by
    side shares the time."""
    progress = [(entry, entry.progress) for entry in entries]
    device_hours = sum(found.hours * entry.run.plan.world_size for entry, found in progress)
    flops, hours = sum(found.flops for _, found in progress), sum(found.hours for _, found in progress)
    left = sum(max(0.0, entry.run.plan.total_flops - found.flops) for entry, found in progress
               if entry.state in UNDECIDED)  # fmt: skip
    waiting = sum(entry.state in UNDECIDED for entry in entries)
    seconds = None
    if not left:
        seconds = 0.0
    elif flops and hours:
        seconds = left / (flops / hours) * 3600 / max(1, min(slots, waiting))
    return Totals(Counter(entry.state for entry in entries), flops,
                  float(sum(entry.run.plan.total_flops for entry in entries)), device_hours, seconds)  # fmt: skip


def seconds_left(entry: Entry, progress: Progress) -> float | None:
    """Of a run that goes on, at its present speed."""
    if entry.state != "running" or not progress.tokens_per_second:
        return None
    plan = entry.run.plan
    return (plan.num_steps - progress.step) * plan.total_batch_tokens / progress.tokens_per_second


def visible(entries: Sequence[Entry], room: int) -> list[Entry]:
    """The entries that fit into `room` lines, in their order: what runs or went wrong before what waits, and that
    before what is finished."""
    first: tuple[State, ...] = ("running", "failed", "interrupted", "queued", "waiting", "finished")
    ranked = sorted(entries, key=lambda entry: first.index(entry.state))[: max(1, room)]
    return [entry for entry in entries if entry in ranked]


def table(entries: Sequence[Entry], price_per_hour: float | None) -> Table:
    """A row a run."""
    made = Table(box=None, pad_edge=False)
    made.add_column("run", no_wrap=True)
    made.add_column("state", no_wrap=True)
    for heading in ("steps", "loss", "val bpb", "tokens/s", "left", "FLOPs", "hours", *["cost"] * bool(price_per_hour)):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("")
    for entry in entries:
        made.add_row(*row(entry, price_per_hour))
    return made


def row(entry: Entry, price_per_hour: float | None) -> list[Text]:
    progress, plan = entry.progress, entry.run.plan
    left = seconds_left(entry, progress)
    hours = progress.hours * plan.world_size
    cells = [
        f"{progress.step:,}/{plan.num_steps:,}",
        shown(progress.loss, ".3f"),
        shown(progress.bits_per_byte, ".4f"),
        shown(progress.tokens_per_second, ",.0f"),
        "" if left is None else clock(left),
        f"{progress.flops:.1e}/{plan.total_flops:.1e}",
        f"{hours:.2f}",
        *([f"{hours * price_per_hour:,.2f}"] if price_per_hour else []),
    ]
    reason = Text(entry.reason, style="dim", overflow="ellipsis", no_wrap=True)
    return [Text(entry.run.name), Text(entry.state, style=COLOURS[entry.state]), *map(Text, cells), reason]


def summary(found: Totals, price_per_hour: float | None) -> str:
    """One line: how many are where, what it has cost, what is left."""
    states = [f"{found.states[state]} {state}" for state in COLOURS if found.states[state]]
    cost = [f"{found.hours * price_per_hour:,.2f} spent"] if price_per_hour else []
    left = [] if found.seconds_left is None else [f"about {clock(found.seconds_left)} left"]
    flops = f"{found.flops:.2e} of {found.planned_flops:.2e} FLOPs"
    return " · ".join([*states, flops, f"{found.hours:.2f} device-hours", *cost, *left])


def line(entry: Entry) -> str:
    """A run whose state has changed, where there is no table."""
    progress, plan = entry.progress, entry.run.plan
    value = "" if progress.bits_per_byte is None else f", {progress.bits_per_byte:.4f} bits per byte"
    reason = f": {entry.reason}" if entry.reason else ""
    return f"{entry.run.name}: {entry.state}, step {progress.step:,} of {plan.num_steps:,}{value}{reason}"


def shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def clock(seconds: float) -> str:
    """1:05:09, or 5:09 below an hour; days as hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def wide_console() -> Console:
    """The terminal; into a file or a pipe lines of at most PIPE_WIDTH characters."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


class Display:
    """The live table, or lines. Entered while the sweep goes on; `update` may be called often."""

    def __init__(self, entries: Sequence[Entry], slots: int, price_per_hour: float | None, console: Console) -> None:
        self.entries, self.slots, self.price_per_hour = entries, slots, price_per_hour
        self.console = console
        self.live: Live | None = None
        self.said: dict[str, State] = {entry.run.name: entry.state for entry in entries}
        self.last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=2, get_renderable=self._table)
            self.live.start()
        else:
            self._print(f"{len(self.entries)} runs: {self._summary()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
        elif kind is None:
            self._print(self._summary())

    def update(self) -> None:
        if self.live is not None:
            return  # it redraws itself
        for entry in self.entries:
            if self.said[entry.run.name] != entry.state:
                self.said[entry.run.name] = entry.state
                self._print(line(entry))
        if time.monotonic() - self.last_line > LINE_SECONDS:
            running = [entry for entry in self.entries if entry.state == "running"]
            self._print(" | ".join([self._summary(), *map(line, running)]))

    def _table(self) -> Table:
        rows = visible(self.entries, self.console.height - HEADER_LINES)
        made = table(rows, self.price_per_hour)
        hidden = len(self.entries) - len(rows)
        more = f"{hidden} more not shown · " if hidden else ""
        made.caption, made.caption_justify = Text(more + self._summary()), "left"
        return made

    def _summary(self) -> str:
        return summary(totals(self.entries, self.slots), self.price_per_hour)

    def _print(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(Text(text), soft_wrap=True)


def plan_table(entries: Sequence[Entry]) -> Table:
    """What each run will be, before anything starts."""
    made = Table(box=None, pad_edge=False)
    for heading in ("run", "parameters", "tokens", "tokens/param", "steps", "batch", "FLOPs"):
        made.add_column(heading, justify="left" if heading == "run" else "right", no_wrap=True)
    for entry in entries:
        run, plan = entry.run, entry.run.plan
        made.add_row(run.name, f"{round(plan.train_tokens / run.ratio):,}", f"{plan.train_tokens:,}",
                     f"{run.ratio:.1f}", f"{plan.num_steps:,}", f"{plan.total_batch_tokens:,}",
                     f"{plan.total_flops:.3e}")  # fmt: skip
    return made
