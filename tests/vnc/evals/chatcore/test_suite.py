"""The whole of ChatCORE on a small model, and that it leaves no trace on it."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from tests.vnc.evals.chatcore.conftest import LETTERS, SPELLING, SUMS
from vnc.checkpoint import LoadedModel
from vnc.errors import UserError
from vnc.evals import humaneval
from vnc.evals.bundle import LeftOut
from vnc.evals.chatcore import suite
from vnc.evals.chatcore.suite import score_chatcore, unfit
from vnc.evals.chatcore.tasks import ChatTasks, CodeTask, LetterTask
from vnc.evals.prompts import Share
from vnc.evals.results import Outcome, Written
from vnc.evals.sandbox import Protections, Ran, protections
from vnc.evals.suite import merge
from vnc.tokenizer import Tokenizer

PROBLEM = humaneval.Problem(
    "X/0", 'def one():\n    """The first."""\n', "    return 1\n", "def check(f):\n    assert f() == 1\n", "one"
)


def test_scores_are_means_of_centred_accuracies(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    heard: dict[str, int] = {}

    def progress(label: str, rows: int) -> None:
        heard[label] = heard.get(label, 0) + rows

    result = score_chatcore(chat_model, chat_tasks, progress=progress)
    assert heard == {"mmlu": len(LETTERS), "gsm8k": len(SUMS), "spelling": len(SPELLING)}
    assert [task.label for task in result.tasks] == ["mmlu", "gsm8k", "spelling"]
    letters, sums, spelling = result.tasks
    assert letters.baseline == pytest.approx((1 / 3 + 1 / 4) / 2) and sums.baseline == spelling.baseline == 0
    right = [sum(row.correct for row in task.outcomes) for task in result.tasks]
    # What was taught is known, and not all of the rest: the score can tell.
    assert right[0] >= 6 and 4 <= right[1] < 6 and 3 <= right[2] < 5
    centred = (right[0] / 10 - letters.baseline) / (1 - letters.baseline)
    assert result.score == pytest.approx((centred + right[1] / 6 + right[2] / 5) / 3)
    assert result.as_dict()["chatcore"] == result.score
    for row in letters.outcomes:
        assert isinstance(row, Outcome) and row.correct == (row.choice == row.gold == LETTERS[row.row].gold)
    for row in sums.outcomes:
        assert isinstance(row, Written) and row.expected == SUMS[row.row].expected
        assert row.correct == row.answer.endswith(f"#### {row.expected}")


def test_max_examples_takes_shuffled_rows(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    order = list(range(len(SUMS)))
    random.Random(1337).shuffle(order)
    result = score_chatcore(chat_model, chat_tasks, max_examples=3)
    assert [row.row for row in result.tasks[1].outcomes] == order[:3]
    with pytest.raises(UserError, match="max_examples=0"):
        score_chatcore(chat_model, chat_tasks, max_examples=0)


def test_shares_join_to_the_whole(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    """Seven shares of tasks of 10, 6 and 5 rows: some have no row of a task."""
    for count in (2, 7):
        shares = [score_chatcore(chat_model, chat_tasks, share=Share(number, count)) for number in range(count)]
        joined, whole = merge(shares), score_chatcore(chat_model, chat_tasks)
        assert joined.score == whole.score
        for mine, theirs in zip(joined.tasks, whole.tasks, strict=True):
            assert [(row.row, row.correct) for row in mine.outcomes] == [
                (row.row, row.correct) for row in theirs.outcomes
            ]


def test_what_cannot_be_scored_is_left_out_by_name(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    code = CodeTask("humaneval", (PROBLEM,))
    missing = LeftOut("arc_easy", "not there")
    tasks = ChatTasks((*chat_tasks.tasks, code), (missing,))
    result = score_chatcore(chat_model, tasks)
    assert result.left_out == (missing, LeftOut("humaneval", suite.NEEDS_PERMISSION))
    assert result.score == score_chatcore(chat_model, chat_tasks).score
    with pytest.raises(UserError, match=r"no task to score; left out are humaneval \(.*--allow_code_execution"):
        score_chatcore(chat_model, ChatTasks((code,)))


def test_letters_that_the_vocabulary_has_not_leave_the_task_out(chat_model: LoadedModel) -> None:
    tokenizer = Tokenizer.train(["x=A y=A z=A =A =A =A"] * 50, 265)
    assert len(tokenizer.encode("=A")) == 1
    reason = unfit(LetterTask("mmlu", LETTERS), tokenizer, True)
    assert reason is not None and "'A'" in reason
    assert unfit(LetterTask("mmlu", LETTERS), chat_model.tokenizer, False) is None


def test_programs_are_graded_with_permission(chat_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    if not protections().isolated:
        pytest.skip(f"no sandbox here: {protections().in_words()}")
    problems = (PROBLEM, dataclasses.replace(PROBLEM, task_id="X/1"))
    written = iter(["```python\ndef one():\n    return 1\n```", "```python\ndef one():\n    return 2\n```"])
    monkeypatch.setattr(suite, "answer", lambda loaded, asked, limit, progress: [next(written) for _ in asked])
    result = score_chatcore(chat_model, ChatTasks((CodeTask("humaneval", problems),)), allow_code_execution=True)
    assert [row.correct for row in result.tasks[0].outcomes] == [True, False]
    assert result.tasks[0].accuracy == 0.5 and not result.left_out


def test_without_a_sandbox_code_is_left_out_and_not_zero(
    chat_model: LoadedModel, chat_tasks: ChatTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ChatTasks((chat_tasks.tasks[2], CodeTask("humaneval", (PROBLEM,))))
    monkeypatch.setattr(suite, "code_question", lambda prompt: prompt)  # the whole one is too long for this model
    monkeypatch.setattr(suite, "grade", lambda *_, **__: (Ran("not run", stderr="the sandbox fell apart"),))
    if protections().isolated:
        result = score_chatcore(chat_model, tasks, allow_code_execution=True)
        assert result.left_out == (LeftOut("humaneval", "the sandbox fell apart"),) and len(result.tasks) == 1
    monkeypatch.setattr(suite, "protections", lambda: Protections(False, False, False))
    result = score_chatcore(chat_model, tasks, allow_code_execution=True)
    assert [left.label for left in result.left_out] == ["humaneval"] and len(result.tasks) == 1


def test_a_model_in_training_trains_on_as_if_never_asked(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    """Weights, gradients, mode and all random states; the next step's gradients are the same to the last bit."""

    def next_gradients(ask: bool) -> dict[str, torch.Tensor]:
        gpt = type(chat_model.gpt)(chat_model.gpt.config, torch.bfloat16)
        gpt.load_state_dict(chat_model.gpt.state_dict())
        gpt.train()
        for name, parameter in gpt.named_parameters():
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
        loaded = dataclasses.replace(chat_model, gpt=gpt)
        ids = torch.randint(0, 280, (2, 65))
        states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        before = {name: parameter.clone() for name, parameter in gpt.named_parameters()}
        if ask:
            score_chatcore(loaded, chat_tasks)
            assert gpt.training and not fired
            assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[1]
            assert np.random.get_state()[1].tolist() == states[2]
            for name, parameter in gpt.named_parameters():
                assert parameter.requires_grad and parameter.grad is None and torch.equal(parameter, before[name])
        gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
        return {name: parameter.grad for name, parameter in gpt.named_parameters() if parameter.grad is not None}

    fired: list[str] = []
    torch.manual_seed(0)
    expected = next_gradients(ask=False)
    fired.clear()
    torch.manual_seed(0)
    found = next_gradients(ask=True)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_model_in_training_scores_as_its_checkpoint(chat_model: LoadedModel, chat_tasks: ChatTasks) -> None:
    gpt = type(chat_model.gpt)(chat_model.gpt.config)
    gpt.load_state_dict(chat_model.gpt.state_dict())
    in_training = dataclasses.replace(chat_model, gpt=gpt.train())
    assert score_chatcore(in_training, chat_tasks) == score_chatcore(chat_model, chat_tasks)
