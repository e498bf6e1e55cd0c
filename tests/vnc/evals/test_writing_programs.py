"""Tasks in which the model writes programs, which are run and judged by their results."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.vnc.evals.conftest import CONTEXT
from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.evals import writing
from vnc.evals.bundle import Bundle, LeftOut, Task
from vnc.evals.examples import Code
from vnc.evals.humaneval import grade
from vnc.evals.prompts import Share
from vnc.evals.results import TaskResult, Written
from vnc.evals.sandbox import End, Protections, Ran, protections
from vnc.evals.suite import merge, score_bundle
from vnc.evals.writing import NEEDS_PERMISSION, as_problem, score_written
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer

needs_sandbox = pytest.mark.skipif(not protections().isolated, reason=f"no sandbox here: {protections().in_words()}")

PROGRAMS = [
    Code("def plus(x):\n", "    return x + 1\n", "plus", ("(1,)", "(-1,)"), ("2", "0")),
    Code("def less(x):\n", "    return x - 1\n", "less", ("(1,)",), ("0",)),
    Code("def twice(x, y):\n", "    return [x, y]\n", "twice", ("(1, 2)",), ("[1, 2]",)),
]
LEARNT = ["\n    return x + 1", "\n    return x + 1", "\n    return [x, y]\nprint(1/0)"]
"""The first is right; the second is wrong; the third goes on, with an error, where it must be cut."""


def code_task(programs: Sequence[Code] = PROGRAMS) -> Task:
    return Task("programs", "code_evaluation", 0, " ", 0.0, tuple(programs))


@pytest.fixture(scope="module")
def programmer() -> LoadedModel:
    """A model that knows three programs by heart, and that a text ends in BOS."""
    pairs = [(program.prompt.rstrip(), learnt) for program, learnt in zip(PROGRAMS, LEARNT, strict=True)]
    tokenizer = Tokenizer.train([prompt + learnt for prompt, learnt in pairs], 275)
    # Encoded apart, as they are when the model is asked: a token must not reach from the one into the other.
    texts = [[*tokenizer.encode(prompt), *tokenizer.encode(learnt)] for prompt, learnt in pairs]
    gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=CONTEXT, n_layer=2, n_head=2, n_embd=32))
    gpt.init_weights(torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=0.01)
    for _ in range(80):
        for text in texts:
            ids = torch.tensor([[tokenizer.bos_id, *text, tokenizer.bos_id]])
            gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return LoadedModel(gpt.eval().requires_grad_(False), tokenizer, False, Path("runs/programmer"))


@needs_sandbox
def test_programs_are_run_and_judged_by_their_results(programmer: LoadedModel) -> None:
    result = score_written(programmer, code_task(), allow_code_execution=True)
    assert isinstance(result, TaskResult)
    outcomes = {outcome.row: outcome for outcome in result.outcomes}
    assert [outcomes[row].correct for row in range(3)] == [True, False, True]
    written = [outcomes[row] for row in range(3)]
    assert [each.answer for each in written if isinstance(each, Written)] == [*LEARNT[:2], "\n    return [x, y]"]
    assert result.kind == "code_evaluation" and result.accuracy == pytest.approx(2 / 3)
    shares = [
        score_bundle(programmer, Bundle((code_task(),)), share=Share(number, 4), allow_code_execution=True)
        for number in range(4)
    ]
    assert merge(shares).tasks == (result,)


def test_without_permission_programs_are_left_out_and_not_written(
    programmer: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(writing, "continuations", refuse)
    assert score_written(programmer, code_task()) == LeftOut("programs", NEEDS_PERMISSION)
    with pytest.raises(
        UserError, match=r"no task to score; left out are gone \(no data\); programs \(.*allow_code_exec"
    ):
        score_bundle(programmer, Bundle((code_task(),), (LeftOut("gone", "no data"),)))
    weak = Protections(False, False, False)
    monkeypatch.setattr(writing, "protections", lambda: weak)
    found = score_written(programmer, code_task(), allow_code_execution=True)
    assert found == LeftOut("programs", weak.in_words())


@pytest.mark.parametrize("end", ["failed", "timeout", "memory", "output", "killed"])
def test_only_a_program_that_passed_is_right(
    programmer: LoadedModel, monkeypatch: pytest.MonkeyPatch, end: End
) -> None:
    monkeypatch.setattr(writing, "protections", lambda: Protections(True, True, True))
    monkeypatch.setattr(writing, "grade", lambda *_, **__: (Ran("passed"), Ran(end)))
    found = score_written(programmer, code_task(PROGRAMS[:2]), allow_code_execution=True)
    assert isinstance(found, TaskResult) and [outcome.correct for outcome in found.outcomes] == [True, False]


def test_programs_that_could_not_be_run_are_left_out_and_not_wrong(
    programmer: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "protections", lambda: Protections(True, True, True))
    monkeypatch.setattr(writing, "grade", lambda *_, **__: (Ran("passed"), Ran("not run", stderr="it fell apart")))
    found = score_written(programmer, code_task(PROGRAMS[:2]), allow_code_execution=True)
    assert found == LeftOut("programs", "it fell apart")


@needs_sandbox
@pytest.mark.parametrize(
    ("inputs", "outputs", "right", "wrong"),
    [
        (["(1, 2)", "(2, 2)"], ["3", "4"], "    return x + y\n", "    return 3\n"),
        (["1, 2"], ["3"], "    return x + y\n", "    return 4\n"),  # a tuple without its brackets
        (["('a', 'b')"], ["'ab'"], "    return x + y\n", "    return y + x\n"),
        (["(1, 2)"], ["1, 2"], "    return x, y\n", "    return [x, y]\n"),
        (["([1], None)"], ["[1] if True else 0"], "    return x\n", "    return 1\n"),
    ],
)
def test_pairs_of_arguments_and_results(inputs: list[str], outputs: list[str], right: str, wrong: str) -> None:
    code = Code("def f(x, y):\n", right, "f", tuple(inputs), tuple(outputs))
    problem = as_problem("programs", 3, code)
    assert (problem.task_id, problem.entry_point, problem.prompt) == ("programs/3", "f", "def f(x, y):\n")
    grades = grade([problem, problem], [code.canonical_solution, wrong], allow_code_execution=True)
    assert [ran.end for ran in grades] == ["passed", "failed"]
