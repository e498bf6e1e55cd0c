"""The suites of `vnc evaluate`, each in two steps: everything that can be wrong is read and checked first, then the
model is asked. No torch is imported before the second."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from vnc.errors import UserError
from vnc.evals import report
from vnc.evals.bundle import Bundle, read_bundle
from vnc.evals.prompts import check_rows

if TYPE_CHECKING:
    from vnc.checkpoint import LoadedModel
    from vnc.conversation import Conversation
    from vnc.evals.judge import Judge

Name = Literal["core", "gauntlet", "chatcore", "ifeval", "mt_bench", "alpaca_eval"]
NAMES: tuple[Name, ...] = get_args(Name)
WITH_TASKS = ("core", "gauntlet", "chatcore")
JUDGED = ("mt_bench", "alpaca_eval")
TINYWORLD = "TinyWorld"

Progress = Callable[[str, int], None]
"""Hears (what is being worked at, rows of it just done)."""


@dataclass(frozen=True)
class Settings:
    bundle: Path | None = None
    tasks: tuple[str, ...] | None = None
    max_examples: int | None = None
    allow_code_execution: bool = False
    judge: Judge | None = None
    out: Path = Path("answers")
    max_tokens: int = 512


@dataclass(frozen=True)
class Outcome:
    values: dict[str, Any]
    """JSON-able."""
    show: Callable[[], None]
    """Prints it for people."""


@dataclass(frozen=True)
class Prepared:
    """A suite that only needs a model."""

    described: str
    rows: int
    run: Callable[[LoadedModel, Progress], Outcome]


def prepare(name: Name, settings: Settings) -> Prepared:
    """Reads the suite's data. Raises UserError for whatever is wrong with it or the settings."""
    if settings.max_examples is not None and settings.max_examples < 1:
        raise UserError(f"max_examples={settings.max_examples}: must be at least 1")
    if settings.tasks is not None and name not in WITH_TASKS:
        raise UserError(f"tasks: {name} has no tasks to choose from; only {', '.join(WITH_TASKS)} have")
    if settings.judge is not None and name not in JUDGED:
        raise UserError(f"judge_url: {name} needs no judge; only {' and '.join(JUDGED)} do")
    prepared: Mapping[Name, Callable[[Settings], Prepared]] = {
        "core": _core,
        "gauntlet": _gauntlet,
        "chatcore": _chatcore,
        "ifeval": _ifeval,
        "mt_bench": _mt_bench,
        "alpaca_eval": _alpaca_eval,
    }
    return prepared[name](settings)


def open_bundle(folder: Path | None, tasks: Sequence[str] | None = None) -> Bundle:
    """The bundle in `folder`, or TinyWorld's; all its tasks, or those that are named."""
    if folder is not None:
        return read_bundle(folder, tasks)
    from vnc.tinyworld.tasks import write_bundle

    with tempfile.TemporaryDirectory(prefix="vnc_tinyworld_") as scratch:
        write_bundle(Path(scratch))
        return read_bundle(Path(scratch), tasks)


def count_rows(bundle: Bundle, max_examples: int | None = None) -> int:
    """Rows that will be scored in all tasks together; UserError where they are too few for a task."""
    for task in bundle.tasks:
        check_rows(task, max_examples)
    return sum(min(len(task.examples), max_examples or len(task.examples)) for task in bundle.tasks)


def _core(settings: Settings) -> Prepared:
    bundle = open_bundle(settings.bundle, settings.tasks)

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        from vnc.evals.suite import score_bundle

        result = score_bundle(loaded, bundle, settings.max_examples, progress,
                              allow_code_execution=settings.allow_code_execution)  # fmt: skip
        return Outcome(result.as_dict(), lambda: report.show_suite(result, "CORE"))

    described = f"{_tasks(bundle.tasks)} of {settings.bundle or TINYWORLD}"
    return Prepared(described, count_rows(bundle, settings.max_examples), run)


def _gauntlet(settings: Settings) -> Prepared:
    from vnc.evals.gauntlet import GauntletResult, read_gauntlet

    folder = _needed(settings, "gauntlet", "a folder with gauntlet.yaml, eval_meta_data.csv and eval_data/")
    gauntlet = read_gauntlet(folder, settings.tasks)

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        from vnc.evals.suite import score_bundle

        suite = score_bundle(loaded, gauntlet.bundle, settings.max_examples, progress,
                             allow_code_execution=settings.allow_code_execution)  # fmt: skip
        result = GauntletResult(gauntlet, suite)
        return Outcome(result.as_dict(), lambda: report.show_gauntlet(result))

    described = f"{_tasks(gauntlet.bundle.tasks)} of {folder}"
    return Prepared(described, count_rows(gauntlet.bundle, settings.max_examples), run)


def _chatcore(settings: Settings) -> Prepared:
    from vnc.evals.chatcore.tasks import read_chat_tasks

    folder = _needed(settings, "chatcore", "the folder that vnc prepare task_mixture has written")
    tasks = read_chat_tasks(folder, settings.tasks)

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        from vnc.evals.chatcore.suite import score_chatcore

        _expect_chat(loaded, "chatcore")
        result = score_chatcore(loaded, tasks, settings.max_examples, settings.allow_code_execution, progress)
        return Outcome(result.as_dict(), lambda: report.show_suite(result, "ChatCORE"))

    rows = sum(min(len(task.rows), settings.max_examples or len(task.rows)) for task in tasks.tasks)
    return Prepared(f"{_tasks(tasks.tasks)} of {folder}", rows, run)


def _ifeval(settings: Settings) -> Prepared:
    from vnc.evals.answering import conversation, drawn
    from vnc.evals.ifeval.prompts import read_prompts
    from vnc.evals.ifeval.responses import write_responses
    from vnc.evals.ifeval.scoring import check_prompts, score

    source = _needed(settings, "ifeval", "IFEval's input_data.jsonl, or its folder")
    prompts = drawn(read_prompts(source), settings.max_examples)
    check_prompts(prompts)

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        texts = _answerer(loaded, settings, progress, "ifeval")([conversation(prompt.text) for prompt in prompts])
        path = settings.out / "ifeval" / f"{model_id(loaded.source)}.jsonl"
        write_responses(path, prompts, texts)
        result = score(prompts, texts)
        return Outcome(result.as_dict() | {"responses": str(path)}, lambda: report.show_ifeval(result, path))

    return Prepared(f"{len(prompts)} prompts of {source}", len(prompts), run)


def _mt_bench(settings: Settings) -> Prepared:
    from vnc.evals.mt_bench import evaluate_mt_bench
    from vnc.evals.mt_bench_files import read_mt_bench

    folder = _needed(settings, "mt_bench", "FastChat's folder with question.jsonl and judge_prompts.jsonl")
    bench = read_mt_bench(folder)
    questions = min(len(bench.questions), settings.max_examples or len(bench.questions))

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        answer, out = _answerer(loaded, settings, progress, "answers"), settings.out / "mt_bench"
        result = evaluate_mt_bench(bench, answer, model_id(loaded.source), out, settings.judge, settings.max_examples,
                                   lambda count: progress("verdicts", count))  # fmt: skip
        return Outcome(result.as_dict() | {"answers": str(out)}, lambda: report.show_mt_bench(result, out))

    return Prepared(f"{questions} questions of {folder}", questions * (4 if settings.judge else 2), run)


def _alpaca_eval(settings: Settings) -> Prepared:
    from vnc.evals.alpaca_eval import evaluate_alpaca_eval, read_alpaca_eval

    source = _needed(settings, "alpaca_eval", "AlpacaEval's eval_set.jsonl or alpaca_eval.json, or its folder")
    bench = read_alpaca_eval(source)
    instructions = min(len(bench.instructions), settings.max_examples or len(bench.instructions))

    def run(loaded: LoadedModel, progress: Progress) -> Outcome:
        answer, out = _answerer(loaded, settings, progress, "answers"), settings.out / "alpaca_eval"
        result = evaluate_alpaca_eval(bench, answer, model_id(loaded.source), out, settings.judge,
                                      settings.max_examples, lambda count: progress("verdicts", count))  # fmt: skip
        return Outcome(result.as_dict() | {"answers": str(out)}, lambda: report.show_alpaca_eval(result, out))

    return Prepared(f"{instructions} instructions of {source}", instructions * (2 if settings.judge else 1), run)


def _tasks(tasks: Sequence[object]) -> str:
    return "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"


def _needed(settings: Settings, suite: str, what: str) -> Path:
    if settings.bundle is None:
        raise UserError(f"suite {suite} needs --bundle: {what}")
    return settings.bundle


def _answerer(
    loaded: LoadedModel, settings: Settings, progress: Progress, label: str
) -> Callable[[Sequence[Conversation]], list[str]]:
    from vnc.evals.chatcore.answers import answer

    _expect_chat(loaded, label)
    return lambda conversations: answer(
        loaded, conversations, settings.max_tokens, lambda count: progress(label, count)
    )


def _expect_chat(loaded: LoadedModel, suite: str) -> None:
    if not loaded.chat:
        warnings.warn(
            f"{loaded.source} was not trained to chat; {suite} asks it in a form it has not learnt", stacklevel=2
        )


def model_id(source: Path) -> str:
    """A name for the files of a model's answers: NAME_step_00000160 for runs/NAME/checkpoints/step_00000160."""
    parts = source.resolve().parts
    named = [parts[-3], parts[-1]] if len(parts) >= 3 and parts[-2] == "checkpoints" else [parts[-1]]
    return re.sub(r"[^\w.-]+", "_", "_".join(named)).lstrip(".-") or "model"
