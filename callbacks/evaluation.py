"""Benchmarks while the model learns: every N steps and after the last one, on a frozen copy of the model.

The copy shares nothing with training but the numbers at that moment, and evaluation draws nothing from any shared
random state: a run with it and a run without it end with the same weights, bit for bit. Whatever goes wrong in a
benchmark is said and noted, and training goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.text import Text

from callbacks.console import CONSOLE
from callbacks.run_record import RunRecord
from vnc.checkpoint import LoadedModel
from vnc.engine import frozen_copy
from vnc.errors import UserError
from vnc.evals.prompts import WHOLE, Share
from vnc.evals.results import SuiteResult
from vnc.evals.suite import Progress, merge
from vnc.processes import Processes

SAID_SECONDS = 10.0  # between lines of progress


class TimeUp(Exception):
    """The evaluation has taken all the time it was given."""


class Evaluation(Callback):
    """What CoreEval and ChatCoreEval have in common: when, on which processes, for how long, and what is kept.

    Results are kept in runs/NAME/evals: SUITE_step_N.json with everything, SUITE_step_N.csv with a line for each row;
    the averages in run.json and TensorBoard.
    """

    suite: ClassVar[str]
    """Names the files and scalars."""
    title: ClassVar[str]

    def __init__(
        self,
        every_n_steps: int,
        max_examples: int | None,
        time_limit_seconds: float,
        shard_across_ranks: bool,
    ) -> None:
        if every_n_steps < 0 or time_limit_seconds <= 0 or (max_examples is not None and max_examples < 1):
            raise UserError(
                f"{self.suite}_eval: every_n_steps={every_n_steps} must be 0 or more, max_examples={max_examples} at "
                f"least 1 or null, time_limit_seconds={time_limit_seconds} positive"
            )
        self.every_n_steps, self.max_examples = every_n_steps, max_examples
        self.time_limit_seconds, self.shard_across_ranks = time_limit_seconds, shard_across_ranks

    @abstractmethod
    def read(self) -> int:
        """Read the suite's data, and return how many rows it has. Raises UserError."""

    @abstractmethod
    def score(self, loaded: LoadedModel, progress: Progress, share: Share) -> SuiteResult:
        """The share's part of the result."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_steps:
            return
        strategy: Any = trainer.strategy
        if trainer.world_size > 1 and self.time_limit_seconds >= strategy.timeout_seconds:
            raise UserError(
                f"{self.suite}_eval.time_limit_seconds={self.time_limit_seconds:g}: the other processes wait no longer "
                f"than dist_muon.timeout_seconds={strategy.timeout_seconds:g}; lower the first or raise the second"
            )
        self.rows = self.read()  # a mistake in the data ends the run here, not after hours

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        done = trainer.global_step
        if not self.every_n_steps or (done % self.every_n_steps and done < module.last_step):
            return
        strategy: Any = trainer.strategy
        processes: Processes = strategy.processes
        started = time.perf_counter()
        if self.shard_across_ranks and processes.world_size > 1:
            mine = self._attempt(trainer, module, Share(processes.rank, processes.world_size))
            parts = processes.gather(mine)
            failures = [part for part in parts if isinstance(part, str)]
            result = failures[0] if failures else merge([part for part in parts if isinstance(part, SuiteResult)])
        elif trainer.is_global_zero:
            result = self._attempt(trainer, module, WHOLE)
        if trainer.is_global_zero:
            self._keep(trainer, done, result, time.perf_counter() - started)

    def _attempt(self, trainer: Trainer, module: Any, share: Share) -> SuiteResult | str:
        """The result, or what went wrong in words. Nothing but the user ends the run."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        optimizer: Any = trainer.optimizers[0]
        optimizer.wait_for_weights()  # what other processes have updated may still be on its way
        try:
            loaded = LoadedModel(
                frozen_copy(module.gpt), datamodule.tokenizer, datamodule.chat, Path("the model in training")
            )
            return self.score(loaded, self._progress(trainer), share)
        except TimeUp:
            return (f"not finished within {self.time_limit_seconds:g} s; raise {self.suite}_eval.time_limit_seconds or "
                    f"lower {self.suite}_eval.max_examples")  # fmt: skip
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())}"

    def _progress(self, trainer: Trainer) -> Progress:
        """Ends an evaluation that takes too long; says now and then how far it is."""
        started = said = time.perf_counter()
        done = 0

        def progress(label: str, rows: int) -> None:
            nonlocal done, said
            done += rows
            now = time.perf_counter()
            if now - started > self.time_limit_seconds:
                raise TimeUp
            if trainer.is_global_zero and now - said > SAID_SECONDS:
                said = now
                rate = done / (now - started)
                left = (self.rows - done) / rate
                _say(f"{self.title}: {done:,} of {self.rows:,} rows, {rate:,.0f} rows/s, {left:.0f} s left ({label})")

        return progress

    def _keep(self, trainer: Trainer, step: int, result: SuiteResult | str, seconds: float) -> None:
        record = next((each for each in trainer.callbacks if isinstance(each, RunRecord)), None)  # type: ignore[attr-defined]
        if isinstance(result, str):
            _say(f"step {step}: {self.title} failed and is left out, training goes on: {result}")
            if record is not None:
                record.add_evaluation({"step": step, "suite": self.suite, "failure": result, "seconds": seconds})
            return
        low, high = result.interval()
        _say(f"step {step}: {self.title} {result.score:.4f} (95% interval {low:.3f} to {high:.3f}; {seconds:.1f} s)")
        for left in result.left_out:
            _say(f"  left out: {left.label} ({left.reason})")
        summary = {"step": step, "suite": self.suite, self.suite: result.score, "interval": [low, high],
                   "centered": {task.label: task.centered for task in result.tasks}, "seconds": seconds}  # fmt: skip
        if record is not None:
            record.add_evaluation(summary)
            try:
                write_result(record.folder / "evals" / f"{self.suite}_step_{step:08d}", result, summary)
            except OSError as error:
                _say(f"  the rows could not be written: {error}")
        if isinstance(trainer.logger, TensorBoardLogger):
            writer = trainer.logger.experiment
            writer.add_scalar(f"{self.suite}/{self.suite}", result.score, step)
            for task in result.tasks:
                shots = f"_{task.num_fewshot}_shot" if task.num_fewshot else ""
                writer.add_scalar(f"{self.suite}/{task.label}{shots}", task.centered, step)


def write_result(path: Path, result: SuiteResult, summary: dict[str, Any]) -> None:
    """path.json with all of the result and path.csv with a line for each row, each whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"suite": summary["suite"], "step": summary["step"], "seconds": summary["seconds"], **result.as_dict()}
    _whole(path.with_suffix(".json"), lambda file: file.write(json.dumps(values, indent=1) + "\n"))

    def lines(file: Any) -> None:
        writer = csv.writer(file)
        writer.writerow(["task", "num_fewshot", "row", "correct", "answer", "expected", "losses"])
        for task in result.tasks:
            for outcome in task.outcomes:
                row = dataclasses.asdict(outcome)
                answer, expected = row.get("answer", row.get("choice")), row.get("expected", row.get("gold"))
                losses = json.dumps(row["losses"]) if "losses" in row else ""
                writer.writerow(
                    [task.label, task.num_fewshot, outcome.row, int(outcome.correct), answer, expected, losses]
                )

    _whole(path.with_suffix(".csv"), lines)


def _whole(path: Path, write: Callable[[Any], Any]) -> None:
    aside = path.with_name(f".{path.name}")
    with aside.open("w", encoding="utf-8", newline="") as file:
        write(file)
    os.replace(aside, path)


def _say(text: str) -> None:
    CONSOLE.print(Text(text), soft_wrap=True)
