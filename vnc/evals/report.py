"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from vnc.evals.alpaca_eval import AlpacaEvalResult
    from vnc.evals.bootstrap import Interval
    from vnc.evals.bundle import LeftOut
    from vnc.evals.compare import Comparison
    from vnc.evals.gauntlet import GauntletResult
    from vnc.evals.ifeval.scoring import IFEvalResult
    from vnc.evals.mt_bench import MTBenchResult
    from vnc.evals.results import SuiteResult, TaskResult


WIDTH_OF_FILES = 140


def show_suite(result: SuiteResult, name: str) -> None:
    """All tasks, then their averages; tasks that were left out are named below."""
    table = _task_table(result.tasks)
    table.add_section()
    if 0 < len(result.choice_tasks) < len(result.tasks):
        count = len(result.choice_tasks)
        table.add_row(f"mean of the {count} with choices", "", "", *_scores(result.choice_tasks), "")
    mean = f"mean of all {len(result.tasks)} ({name}: centred)"
    table.add_row(mean, "", "", *_scores(result.tasks), _interval(result.interval()), style="bold")
    console = _console()
    console.print(table)
    _show_left_out(console, result.left_out)


def show_gauntlet(result: GauntletResult) -> None:
    """All tasks, then the categories and averages."""
    console = _console()
    console.print(_task_table(result.suite.tasks))
    table = _table("category", "tasks", "centred", "95% interval")
    for category in result.categories:
        score = "no data" if category.score is None else f"{category.score:.4f}"
        interval = result.interval(category)
        count = f"{len(category.tasks)} of {len(category.tasks) + len(category.missing)}"
        table.add_row(category.name, count, score, "" if interval is None else _interval(interval))
    table.add_section()
    for name, average in result.averages.items():
        table.add_row(name, "", "no data" if average is None else f"{average:.4f}", "", style="bold")
    console.print()
    console.print(table)
    _show_left_out(console, result.suite.left_out)
    missing = [f"{label} in {category.name}" for category in result.categories for label in category.missing]
    if missing:
        console.print(f"not scored, and in no average: {', '.join(missing)}", markup=False, soft_wrap=True)


def show_ifeval(result: IFEvalResult, responses: Path) -> None:
    """The four accuracies, then the families of instructions."""
    table = _table("IFEval", "strict", "loose")
    table.add_row("prompts", f"{result.prompt_strict:.4f}", f"{result.prompt_loose:.4f}", style="bold")
    table.add_row("instructions", f"{result.instruction_strict:.4f}", f"{result.instruction_loose:.4f}", style="bold")
    table.add_section()
    for family, score in result.by_family().items():
        table.add_row(f"{family} ({score.instructions})", f"{score.strict:.4f}", f"{score.loose:.4f}")
    console = _console()
    console.print(table)
    console.print(f"responses, as the official checker reads them: {responses}", markup=False, soft_wrap=True)


def show_mt_bench(result: MTBenchResult, out: Path) -> None:
    """Mean rating, by turn and by category."""
    console = _console()
    if isinstance(result.score, float):
        table = _table("MT-Bench", "rating")
        table.add_row("both turns", f"{result.score:.2f}", style="bold")
        for turn, mean in result.by_turn().items():
            table.add_row(f"turn {turn}", "no verdict" if mean is None else f"{mean:.2f}")
        table.add_section()
        for category, mean in result.by_category().items():
            table.add_row(category, "no verdict" if mean is None else f"{mean:.2f}")
        console.print(table)
        console.print(f"judged by {result.judge}: {result.judged} turns, {result.without_verdict} without a verdict")
    else:
        console.print(f"MT-Bench: {result.score}{_way_to_a_judge(result.judge)}")
    console.print(f"answers and ratings, as FastChat reads them: {out}", markup=False, soft_wrap=True)


def show_alpaca_eval(result: AlpacaEvalResult, out: Path) -> None:
    """Win rate against the baseline."""
    console = _console()
    if isinstance(result.score, float):
        error = result.as_dict()["standard_error"]
        console.print(f"AlpacaEval: {result.score:.2f}% of answers preferred to {result.baseline}'s "
                      f"(standard error {error:.2f})", style="bold")  # fmt: skip
        console.print(f"judged by {result.judge}: {len(result.preferences)} answers, "
                      f"{result.without_verdict} without a verdict")  # fmt: skip
    else:
        console.print(f"AlpacaEval: {result.score}{_way_to_a_judge(result.judge)}")
    console.print(f"answers, as alpaca_eval reads them: {out}", markup=False, soft_wrap=True)


def show_comparison(comparison: Comparison, first: str, second: str) -> None:
    """Each task's difference, then the mean."""
    table = _table("task", "shots", "rows", "first", "second", "centred difference", "95% interval")
    for task in comparison.tasks:
        a, b = task.accuracies
        table.add_row(task.label, str(task.num_fewshot), f"{task.rows:,}", f"{a:.4f}", f"{b:.4f}",
                      f"{task.difference:+.4f}", _interval(task.interval))  # fmt: skip
    table.add_section()
    table.add_row(f"mean of all {len(comparison.tasks)}", "", "", "", "", f"{comparison.difference:+.4f}",
                  _interval(comparison.interval), style="bold")  # fmt: skip
    console = _console()
    console.print(f"first: {first}\nsecond: {second}", markup=False, soft_wrap=True)
    console.print(table)
    low, high = comparison.interval
    better = "the second is better" if low > 0 else "the first is better" if high < 0 else "no difference is certain"
    console.print(f"{better}: the 95% interval of the difference is {_interval(comparison.interval)}")
    if comparison.alone:
        console.print(f"only in one of them, not compared: {', '.join(comparison.alone)}", soft_wrap=True)


def _task_table(tasks: Iterable[TaskResult]) -> Table:
    from vnc.evals.bootstrap import mean_interval

    table = _table("task", "shots", "rows", "accuracy", "chance", "centred", "95% interval")
    for task in tasks:
        interval = mean_interval([task.centered_rows()])
        table.add_row(
            task.label, str(task.num_fewshot), f"{len(task.outcomes):,}", *_scores([task]), _interval(interval)
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table


def _console() -> Console:
    """Where nobody looks at a screen, lines are as long as they need to be."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_FILES)


def _scores(tasks: Sequence[TaskResult]) -> tuple[str, str, str]:
    """Mean accuracy, chance and centred score."""
    return (
        f"{fmean(task.accuracy for task in tasks):.4f}",
        f"{fmean(task.baseline for task in tasks):.4f}",
        f"{fmean(task.centered for task in tasks):.4f}",
    )


def _interval(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _show_left_out(console: Console, left_out: Iterable[LeftOut]) -> None:
    for left in left_out:
        console.print(f"left out: {left.label} ({left.reason})", markup=False, soft_wrap=True)


def _way_to_a_judge(judge: str | None) -> str:
    return "" if judge else " (give --judge_url and --judge_model to have the answers judged)"
