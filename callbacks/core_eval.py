"""CORE while a base model learns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from callbacks.evaluation import Evaluation
from vnc.checkpoint import LoadedModel
from vnc.evals.prompts import Share
from vnc.evals.results import SuiteResult
from vnc.evals.suite import Progress, score_bundle
from vnc.evals.suites import count_rows, open_bundle


class CoreEval(Evaluation):
    """Scores in-context-learning tasks and CORE, their mean (docs/core.md).

    Args:
        every_n_steps: Steps between evaluations, and one after the last step; 0 switches them off.
        bundle: Folder with core.yaml, eval_meta_data.csv and eval_data/; TinyWorld's own tasks when null.
        tasks: Only these tasks, by label; null takes all.
        max_examples: At most this many rows of each task, drawn with a fixed seed; null takes all.
        time_limit_seconds: An evaluation that takes longer is given up, and training goes on.
        shard_across_ranks: Every process scores its share of the rows; false leaves all to the first, for which the
            others wait.
    """

    suite: ClassVar[str] = "core"
    title: ClassVar[str] = "CORE"

    def __init__(
        self,
        every_n_steps: int = 0,
        bundle: str | None = None,
        tasks: list[str] | None = None,
        max_examples: int | None = None,
        time_limit_seconds: float = 900.0,
        shard_across_ranks: bool = False,
    ) -> None:
        super().__init__(every_n_steps, max_examples, time_limit_seconds, shard_across_ranks)
        self.folder, self.tasks = bundle, tasks

    def read(self) -> int:
        self.bundle = open_bundle(None if self.folder is None else Path(self.folder), self.tasks)
        return count_rows(self.bundle, self.max_examples)

    def score(self, loaded: LoadedModel, progress: Progress, share: Share) -> SuiteResult:
        return score_bundle(loaded, self.bundle, self.max_examples, progress, share)
