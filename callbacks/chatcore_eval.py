"""ChatCORE while a chat model learns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from callbacks.evaluation import Evaluation
from vnc.checkpoint import LoadedModel
from vnc.errors import UserError
from vnc.evals.chatcore.suite import score_chatcore
from vnc.evals.chatcore.tasks import read_chat_tasks
from vnc.evals.prompts import Share
from vnc.evals.results import SuiteResult
from vnc.evals.suite import Progress


class ChatCoreEval(Evaluation):
    """Scores a chat model's tasks and ChatCORE, their mean (docs/chatcore.md).

    Args:
        every_n_steps: Steps between evaluations, and one after the last step; 0 switches them off.
        bundle: Folder with the tests, as `vnc prepare task_mixture` writes it.
        tasks: Only these tasks, by name; null takes all.
        max_examples: At most this many rows of each task, drawn with a fixed seed; null takes all.
        allow_code_execution: Run the programs that the model writes for HumanEval, in a sandbox (docs/sandbox.md);
            false leaves HumanEval out.
        time_limit_seconds: An evaluation that takes longer is given up, and training goes on.
        shard_across_ranks: Every process scores its share of the rows; false leaves all to the first, for which the
            others wait.
    """

    suite: ClassVar[str] = "chatcore"
    title: ClassVar[str] = "ChatCORE"

    def __init__(
        self,
        every_n_steps: int = 0,
        bundle: str | None = None,
        tasks: list[str] | None = None,
        max_examples: int | None = None,
        allow_code_execution: bool = False,
        time_limit_seconds: float = 900.0,
        shard_across_ranks: bool = False,
    ) -> None:
        super().__init__(every_n_steps, max_examples, time_limit_seconds, shard_across_ranks)
        if every_n_steps and bundle is None:
            raise UserError("chatcore_eval.bundle: name the folder that vnc prepare task_mixture has written")
        self.folder, self.tasks, self.allow_code_execution = bundle, tasks, allow_code_execution

    def read(self) -> int:
        assert self.folder is not None
        self.chat_tasks = read_chat_tasks(Path(self.folder), self.tasks)
        sizes = (len(task.rows) for task in self.chat_tasks.tasks)
        return sum(min(size, self.max_examples or size) for size in sizes)

    def score(self, loaded: LoadedModel, progress: Progress, share: Share) -> SuiteResult:
        return score_chatcore(loaded, self.chat_tasks, self.max_examples, self.allow_code_execution, progress, share)
