"""Trees hold the prompts whole, and a model reads each prompt in a tree as it reads it alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vnc.config import GPTConfig
from vnc.evals.prompts import Prompt, Question
from vnc.evals.scoring import judge_tokens, score
from vnc.evals.tree_attention import TreeReading
from vnc.evals.trees import ALIKE, PADDING, batches, lay_out, plant
from vnc.gpt import GPT

VOCAB = 48


@st.composite
def questions(draw: st.DrawFn, longest: int = 40) -> Question:
    """Prompts that share a beginning, perhaps an empty one, and perhaps are equal."""
    seed = draw(st.integers(0, 2**31))
    generator = np.random.default_rng(seed)
    stem = generator.integers(0, VOCAB, draw(st.integers(1, longest)))
    prompts = []
    for _ in range(draw(st.integers(1, 5))):
        own = generator.integers(0, VOCAB, draw(st.integers(0, longest // 2)))
        tokens = np.concatenate([stem[draw(st.integers(0, 1)) :], own]).astype(np.int32)
        if len(tokens) == 0:
            tokens = stem.astype(np.int32)
        prompts.append(Prompt(tokens, draw(st.integers(1, len(tokens)))))
    if draw(st.booleans()):
        prompts.append(prompts[0])
    return Question(0, tuple(prompts), 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(questions(), min_size=1, max_size=6), st.integers(20, 400))
def test_every_prompt_is_in_one_tree_and_every_tree_in_one_batch(asked: list[Question], budget: int) -> None:
    trees = plant(asked)
    owned = [(tree.question, option) for tree in trees for options in tree.owners for option in options]
    judged = [
        (index, option)
        for index, question in enumerate(asked)
        for option, prompt in enumerate(question.prompts)
        if prompt.start < len(prompt.tokens)
    ]
    assert sorted(owned) == sorted(judged)
    made = list(batches(trees, budget))
    assert sorted(id(tree) for batch in made for tree in batch) == sorted(map(id, trees))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(tree.length for tree in batch) <= budget
        grove, prompt = lay_out(batch), 0
        ends = np.cumsum(grove.counts)
        for row, tree in enumerate(batch):
            for branch, expected in enumerate(tree.prompts, start=1):
                seen = (grove.branches[row] == 0) | (grove.branches[row] == branch)
                assert grove.tokens[row][seen].tolist() == expected.tokens[:-1].tolist()
                assert grove.positions[row][seen].tolist() == list(range(len(expected.tokens) - 1))
                targets = grove.targets[ends[prompt] - grove.counts[prompt] : ends[prompt]]
                assert targets.tolist() == expected.tokens[expected.start :].tolist()
                prompt += 1
            assert (grove.branches[row] != PADDING).sum() == tree.length


def test_what_is_shared_is_read_once() -> None:
    stem = np.arange(100, dtype=np.int32)
    endings = [np.array(ending, np.int32) for ending in ([7, 8, 9], [7, 8, 5, 6], [3], [3])]
    prompts = tuple(Prompt(np.concatenate([stem, ending]), 100) for ending in endings)
    (tree,) = plant([Question(0, prompts, 0)])
    assert (tree.stem, tree.length, tree.owners) == (100, 100 + 2 + 3 + 0, ((0,), (1,), (2, 3)))
    others = tuple(Prompt(prompt.tokens[cut:], 90) for cut, prompt in enumerate(prompts[:2]))
    assert [tree.stem for tree in plant([Question(0, others, 0)])] == [102, 102]  # not alike from the first on
    assert ALIKE < 100


@pytest.mark.parametrize("preset", ["modern", "classic"])
@settings(max_examples=25, deadline=None)
@given(asked=st.lists(questions(longest=230), min_size=1, max_size=3))
def test_a_tree_is_read_as_its_prompts_alone(preset: str, asked: list[Question]) -> None:
    gpt = small_model(preset)
    trees = plant(asked)
    if not trees:
        return
    grove = lay_out(trees)
    with torch.no_grad():
        together = gpt(torch.from_numpy(grove.tokens), TreeReading(gpt.config, grove, torch.device("cpu")), grove.first)
        together = together.flatten(0, 1)[torch.from_numpy(grove.judged)]
        alone = [
            gpt(torch.from_numpy(prompt.tokens[None, :-1]).long())[0, prompt.start - 1 :]
            for tree in trees
            for prompt in tree.prompts
        ]
        losses, _ = judge_tokens(gpt, together, torch.from_numpy(grove.targets))
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=2e-5)
    means = iter([float(each.mean()) for each in np.split(losses, np.cumsum(grove.counts)[:-1])])
    expected = {option: mean for tree in trees for options in tree.owners for mean in [next(means)]
                for option in [(tree.question, option) for option in options]}  # fmt: skip
    for index, options in enumerate(score(gpt, asked, 700)):
        for option, found in enumerate(options):
            assert found.loss is None or found.loss == pytest.approx(expected[index, option], abs=1e-5)


def small_model(preset: str) -> GPT:
    sizes = dict(vocab_size=VOCAB, sequence_len=512, n_layer=4, n_head=2, n_embd=32)
    config = GPTConfig(**sizes) if preset == "modern" else GPTConfig.gpt2(**sizes)
    gpt = GPT(config)
    generator = torch.Generator().manual_seed(0)
    gpt.init_weights(generator)
    with torch.no_grad():
        for parameter in gpt.parameters():  # what starts at 0 would make all prompts alike
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return gpt
