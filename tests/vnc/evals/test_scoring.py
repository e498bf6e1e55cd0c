"""Batched scoring against one example at a time, written independently (plain_scorer.py)."""

import functools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import vnc.evals.suite
from tests.vnc.evals.conftest import CONTEXT, ROWS, write_bundle
from tests.vnc.evals.plain_scorer import mean_loss, plain_decisions
from vnc.checkpoint import LoadedModel
from vnc.config import GPTConfig
from vnc.errors import UserError
from vnc.evals.bundle import Task, read_bundle
from vnc.evals.gauntlet import read_gauntlet
from vnc.evals.prompts import Share, make_questions
from vnc.evals.scoring import score
from vnc.evals.suite import merge, score_bundle, score_task
from vnc.gpt import GPT
from vnc.tokenizer import Tokenizer


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("max_examples", [None, 5])
def test_decisions_equal_one_example_at_a_time(
    model: LoadedModel, tmp_path: Path, shots: int, max_examples: int | None
) -> None:
    result = score_bundle(model, read_bundle(write_bundle(tmp_path / "bundle", shots)), max_examples)
    for task in result.tasks:
        delimiter = "\nA: " if task.kind == "schema" else " "
        plain = plain_decisions(model, ROWS[task.kind](), task.kind, shots, delimiter, max_examples)
        assert [outcome.correct for outcome in task.outcomes] == plain
        if max_examples is None:
            # Not decided alike because all are wrong. Only five sentences are known, and only without others before.
            assert 0 < sum(plain) < len(plain) or (task.kind == "language_modeling" and shots)
            assert sorted(outcome.row for outcome in task.outcomes) == list(range(len(plain)))


def test_some_prompts_of_these_tests_are_cut_and_some_are_not(model: LoadedModel, bundle: Path) -> None:
    task = read_bundle(bundle).tasks[0]
    whole = [prompt for each in make_questions(task, model.tokenizer, 10_000) for prompt in each.prompts]
    lengths = {len(prompt.tokens) > CONTEXT for prompt in whole}
    assert lengths == {True, False}
    assert any(len(prompt.tokens) - prompt.start > CONTEXT for prompt in whole)  # a continuation is cut too


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_batches_change_nothing(model: LoadedModel, bundle: Path, batch_tokens: int) -> None:
    for task in read_bundle(bundle).tasks:
        questions = [*make_questions(task, model.tokenizer, CONTEXT)]
        alone = [score(model.gpt, [question])[0] for question in questions]
        for one, together in zip(alone, score(model.gpt, questions, batch_tokens), strict=True):
            for a, b in zip(one, together, strict=True):
                assert a.greedy == b.greedy
                assert a.loss == pytest.approx(b.loss, abs=1e-5)


def test_losses_are_means_over_the_judged_tokens(model: LoadedModel, bundle: Path) -> None:
    for task in read_bundle(bundle).tasks:
        questions = [*make_questions(task, model.tokenizer, CONTEXT)]
        for question, options in zip(questions, score(model.gpt, questions), strict=True):
            for prompt, option in zip(question.prompts, options, strict=True):
                plain = mean_loss(model, prompt.tokens.tolist(), prompt.start)
                assert plain == pytest.approx(option.loss, abs=1e-5) if option.loss is not None else math.isnan(plain)


def test_equal_options_have_equal_losses(model: LoadedModel, bundle: Path) -> None:
    rows, task = ROWS["multiple_choice"](), read_bundle(bundle).tasks[0]
    for outcome in score_task(model, task).outcomes:
        options = rows[outcome.row]["choices"]
        for a, first in enumerate(options):
            for b, second in enumerate(options):
                if first == second:
                    assert outcome.losses[a] == outcome.losses[b]


def test_bfloat16_decides_nearly_alike(model: LoadedModel, bundle: Path) -> None:
    small = GPT(model.gpt.config, torch.bfloat16)
    small.load_state_dict(model.gpt.state_dict())
    for task in read_bundle(bundle).tasks:
        questions = [*make_questions(task, model.tokenizer, CONTEXT)]
        for exact, rounded in zip(score(model.gpt, questions), score(small, questions), strict=True):
            for a, b in zip(exact, rounded, strict=True):
                assert (a.loss is None) == (b.loss is None)
                if a.loss is not None:
                    assert a.loss == pytest.approx(b.loss, rel=0.1, abs=0.1)


def test_done_counts_every_question(model: LoadedModel, bundle: Path) -> None:
    heard: list[tuple[str, int]] = []
    loaded = read_bundle(bundle)
    score_bundle(model, loaded, progress=lambda label, rows: heard.append((label, rows)))
    for task in loaded.tasks:
        assert sum(rows for label, rows in heard if label == task.label) == len(task.examples)


def test_training_goes_on_as_if_nothing_had_been_scored(tokenizer: Tokenizer, bundle: Path) -> None:
    def gradients(evaluate: bool) -> list[torch.Tensor]:
        gpt = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_len=CONTEXT, n_layer=2, n_head=2, n_embd=32))
        gpt.init_weights(torch.Generator().manual_seed(0))
        for parameter in gpt.parameters():
            parameter.data += 0.1
        if evaluate:  # before the first step: what a first pass leaves in the model was made here
            states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
            score_bundle(LoadedModel(gpt, tokenizer, False, Path("run")), read_bundle(bundle))
            assert random.getstate() == states[0]
            assert torch.equal(torch.get_rng_state(), states[1])
            assert np.random.get_state()[1].tolist() == states[2]
            assert gpt.training and all(parameter.requires_grad for parameter in gpt.parameters())
        ids = torch.arange(2 * 40).view(2, 40)
        gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
        return [parameter.grad for parameter in gpt.parameters() if parameter.grad is not None]

    for with_evaluation, without in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(with_evaluation, without)


def test_a_model_whose_losses_are_no_numbers_is_refused(model: LoadedModel, bundle: Path) -> None:
    broken = GPT(model.gpt.config)
    broken.load_state_dict(model.gpt.state_dict())
    broken.head.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        score_bundle(LoadedModel(broken, model.tokenizer, False, Path("run")), read_bundle(bundle))


JUDGED = ("multiple_choice", "schema", "language_modeling")


def real_tasks(folder: Path) -> list[tuple[Task, list[dict[str, Any]]]]:
    """Every task of CORE and of the gauntlet that is judged by likelihood, with the rows of its file."""
    content = [yaml.safe_load((folder / name).read_text()) for name in ("core.yaml", "gauntlet.yaml")]
    entries = [entry for each in content for key in ("icl_tasks", "icl_tasks_extra") for entry in each.get(key, [])]
    files = {entry["label"]: folder / "eval_data" / entry["dataset_uri"] for entry in entries}
    tasks = [*read_bundle(folder).tasks, *read_gauntlet(folder).bundle.tasks]
    read = functools.cache(lambda path: [json.loads(line) for line in path.read_text().splitlines()])
    return [(task, read(files[task.label])) for task in tasks if task.kind in JUDGED]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["modern"], indirect=True)
def test_real_tasks_equal_one_example_at_a_time(model: LoadedModel, shared_data: Path) -> None:
    """Every task of the bundle, as many rows as its solved examples need. (The whole of each, with a trained model and
    nanochat's core_eval beside it: benchmarks/icl.py.)"""
    tasks = real_tasks(shared_data / "eval_bundle")
    assert len(tasks) >= 22 + 40
    for task, rows in tasks:
        few = max(8, task.num_fewshot + 1)
        plain = plain_decisions(model, rows, task.kind, task.num_fewshot, task.delimiter, max_examples=few)
        result = score_task(model, task, max_examples=few)
        assert [outcome.correct for outcome in result.outcomes] == plain, task.label


def test_shares_together_are_the_whole(model: LoadedModel, bundle: Path) -> None:
    loaded = read_bundle(bundle)
    whole = score_bundle(model, loaded)
    for of in (2, 3, 100):
        merged = merge([score_bundle(model, loaded, share=Share(number, of)) for number in range(of)])
        for task, expected in zip(merged.tasks, whole.tasks, strict=True):
            assert [(each.row, each.correct, each.choice) for each in task.outcomes] == [
                (each.row, each.correct, each.choice) for each in expected.outcomes
            ]


def test_a_small_portion_at_a_time_changes_nothing(
    model: LoadedModel, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_bundle(model, read_bundle(bundle))
    monkeypatch.setattr(vnc.evals.suite, "TOKENS_AT_A_TIME", 200)
    portioned = score_bundle(model, read_bundle(bundle))
    decisions = [[[outcome.correct for outcome in task.outcomes] for task in each.tasks] for each in (whole, portioned)]
    assert decisions[0] == decisions[1]
