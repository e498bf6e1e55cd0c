"""TaskMixture: conversations from several tasks for mid-training, in which a model that continues text learns to
answer. Which tasks there are is in datamodules/tasks, the guide in docs/task_mixture.md.

An epoch is a list of conversations in an order drawn from the seed (tasks/order.py), cut into windows; a window is
rendered when it is read. Only what the assistant says is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from datamodules.base import RowDataModule
from datamodules.documents import Documents
from datamodules.lanes import shuffled
from datamodules.tasks.learnable import learnable
from datamodules.tasks.order import Sampling, epoch_order, picks, share_out
from datamodules.tasks.spec import OpenedTask, TaskSpec, open_task
from datamodules.tasks.task import Task
from datamodules.windows import cut
from vnc.errors import UserError
from vnc.multiple_choice import multiple_choice
from vnc.tokenizer import Tokenizer

# Plain dicts, so that --help and the saved config.yaml show them as they are written. SmolTalk once, MMLU three times
# and GSM8K four times is nanochat's recipe of July 2026; the others are small beside them.
DEFAULT_MIXTURE: list[Any] = [
    {"task": "smoltalk"},
    {"task": "mmlu", "epochs": 3.0},
    {"task": "gsm8k", "epochs": 4.0},
    {"task": "arc_easy"},
    {"task": "arc_challenge"},
    {"task": "spelling", "size": 40_000},
    {"task": "tinyworld", "size": 2_000},
]
VALIDATION_SEED = 0  # whatever the seed of a run, it validates on the same
ESTIMATE = 0xE57  # marks the draws of this purpose

_question = multiple_choice("Which of these is a metal?", "ABCD", ["wood", "iron", "glass", "water"])
SAMPLE_PROMPTS = {
    "smoltalk": "Give me three tips for learning to cook.",
    "mmlu": _question,
    "gsm8k": "Anna has 12 apples. She gives 5 to Ben and buys 8 more. How many apples does she have?",
    "arc_easy": _question,
    "arc_challenge": _question,
    "spelling": "How many r are in strawberry?",
    "tinyworld": "Where does Mara live?",
    "json": "Who are you?",
}


@dataclass(frozen=True, eq=False)
class MixtureWindows:
    """The conversations of a mixture, by window. Every epoch has the same number of each task in another order."""

    name: str
    tasks: tuple[Task, ...]
    picks: tuple[int, ...]
    """Conversations of each task in an epoch."""
    lanes: int
    seed: int
    tokenizer: Tokenizer

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(task) for task in self.tasks)

    @cached_property
    def _window_starts(self) -> npt.NDArray[np.int64]:
        return cut([sum(self.picks)], self.lanes)

    @property
    def count(self) -> int:
        return len(self._window_starts) - 1

    def documents(self, epoch: int, window: int) -> Documents:
        """The conversations of a window from which something can be learnt, rendered; those left out are counted."""
        first, end = self._window_starts[window : window + 2]
        chosen = epoch_order(self.lengths, self.picks, self.seed, epoch)[first:end]
        after = np.cumsum(self.lengths)
        tasks = np.searchsorted(after, chosen, side="right")
        places = chosen - (after - np.array(self.lengths))[tasks]
        drawn = zip(tasks.tolist(), places.tolist(), strict=True)
        return learnable((self.tasks[task].conversation(place) for task, place in drawn), self.tokenizer)


class TaskMixture(RowDataModule):
    """Rows from conversations of several tasks.

    Args:
        data_dir: folder that `vnc prepare task_mixture` wrote: <task>/<split>.parquet, or .jsonl.
        tokenizer: "gpt2", or a folder that `vnc tokenizer train` wrote; the one that the model was pretrained with.
        tasks: what is mixed. On the command line a list such as '[{task: gsm8k, epochs: 4}]', or with --data.tasks+
            one more than the configuration has, such as '{task: json, path: mine.jsonl}'.
        sampling: proportional (each conversation as often as its task's epochs say), uniform (each task gives as many
            conversations), or weighted (each in proportion to its weight).
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        seed: order of the conversations.
        num_workers: 0 reads on threads of the training process, n in n processes beside it.
        val_tokens: tokens that validation reads.
    """

    chat = True
    train_windows: MixtureWindows

    def __init__(
        self,
        data_dir: str = "data/task_mixture",
        tokenizer: str = "gpt2",
        tasks: list[TaskSpec] = DEFAULT_MIXTURE,
        sampling: Sampling = "proportional",
        lanes: int = 64,
        seed: int = 1337,
        num_workers: int = 0,
        val_tokens: int = 2**20,
    ) -> None:
        super().__init__("bestfit_pad", lanes, seed, num_workers, val_tokens)
        if sampling not in get_args(Sampling):
            raise UserError(f"sampling={sampling!r}: one of {', '.join(get_args(Sampling))}")
        if not tasks:
            raise UserError("--data.tasks: an empty list; name at least one task, such as [{task: smoltalk}]")
        self.specs = [spec if isinstance(spec, TaskSpec) else TaskSpec(**spec) for spec in tasks]
        for spec in self.specs:
            if spec.weight is not None and sampling != "weighted":
                raise UserError(f"--data.tasks, {spec.task}: weight={spec.weight} counts only under --data.sampling "
                                f"weighted; with {sampling}, leave it out")  # fmt: skip
        self.data_dir, self.tokenizer_name, self.sampling = Path(data_dir), tokenizer, sampling
        self.sample_prompts = list(dict.fromkeys(SAMPLE_PROMPTS[spec.task] for spec in self.specs))

    def setup(self, stage: str) -> None:
        self.tokenizer = Tokenizer.load(self.tokenizer_name)
        opened = [open_task(spec, self.data_dir) for spec in self.specs]
        self.train_windows = self._training([task.train for task in opened])
        self.val_windows = self._validation(opened)
        self.data_identity = {"sampling": self.sampling} | {
            f"task {number}": f"{spec.task}: {self.train_windows.picks[number]} an epoch from {task.identity}"
            for number, (spec, task) in enumerate(zip(self.specs, opened, strict=True))
        }

    def epoch_tokens(self, sample: int = 2_000, sequence_len: int | None = None) -> int:
        """About how many tokens an epoch of training holds, from rendering about `sample` conversations, drawn from
        each task in its share; always the same for the same data. Needs `setup`.

        A conversation counts with at most sequence_len + 1 tokens, if given: the rest of it would be cut. Padding is
        not counted.
        """
        windows, total = self.train_windows, 0.0
        for number, (task, count) in enumerate(zip(windows.tasks, windows.picks, strict=True)):
            looked_at = shuffled(len(task), ESTIMATE, number)[: max(1, round(sample * count / sum(windows.picks)))]
            documents = learnable((task.conversation(int(index)) for index in looked_at), self.tokenizer)
            longest = None if sequence_len is None else sequence_len + 1
            total += count * float(np.clip(documents.lengths, None, longest).sum()) / len(looked_at)
        return round(total)

    def _training(self, tasks: list[Task]) -> MixtureWindows:
        epochs, weights = [spec.epochs for spec in self.specs], [spec.weight or 1.0 for spec in self.specs]
        counts = picks([len(task) for task in tasks], epochs, weights, self.sampling)
        name = f"the task mixture ({', '.join(task.name for task in tasks)})"
        if sum(counts) < self.lanes:
            raise UserError(f"{name}: {sum(counts)} conversations cannot fill {self.lanes} lanes; set --data.lanes to "
                            f"{sum(counts)} or less, or add conversations")  # fmt: skip
        return MixtureWindows(name, tuple(tasks), tuple(counts), self.lanes, self.seed, self.tokenizer)

    def _validation(self, opened: list[OpenedTask]) -> MixtureWindows:
        """The tasks in the shares that they have in training, over conversations that training never sees."""
        held = [(task.validation, share) for task, share in zip(opened, self.train_windows.picks, strict=True)
                if len(task.validation)]  # fmt: skip
        if not held:
            raise UserError("--data.tasks: nothing is left to validate with; add a conversation, or a task with a "
                            "validation split")  # fmt: skip
        tasks = tuple(task for task, _ in held)
        counts = share_out(sum(len(task) for task in tasks), [share for _, share in held])
        name = f"the task mixture's validation ({', '.join(task.name for task in tasks)})"
        return MixtureWindows(name, tasks, tuple(counts), 1, VALIDATION_SEED, self.tokenizer)
