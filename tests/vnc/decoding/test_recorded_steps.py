"""Passes of one token for each row, laid out for a recording, against the cache's own. Recording itself needs a GPU:
tests/vnc/cuda/test_cuda.py."""

import gc
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch

from vnc.cache import KVCache
from vnc.config import GPTConfig
from vnc.decoding import recorded_steps
from vnc.decoding.one_token_each import OneTokenEach
from vnc.decoding.recorded_steps import CHECKS, PASSES_BEFORE, StepRecorder, can_record
from vnc.engine import frozen_copy
from vnc.gpt import GPT

LENGTH = 40


@dataclass(frozen=True)
class Windowed(GPTConfig):
    """A window that goes round, and a layer that sees everything."""

    @property
    def windows(self) -> tuple[int, ...]:
        return (5, 12, self.sequence_len)


def model(preset="modern"):
    sizes = dict(vocab_size=60, sequence_len=LENGTH, n_layer=3, n_head=2, n_embd=32)
    gpt = GPT(Windowed(**sizes) if preset == "modern" else Windowed.gpt2(**sizes))
    for seed, parameter in enumerate(gpt.parameters()):  # those that training starts at zero too
        parameter.data.normal_(0.2, 0.3, generator=torch.Generator().manual_seed(seed))
    return frozen_copy(gpt)


def tokens(*shape, seed):
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(seed))


def filled(gpt, counts=(9, 4, 12)):
    """A cache whose rows have read prompts of these lengths."""
    cache = KVCache(gpt.config, len(counts), LENGTH, torch.float32)
    cache.expect(counts)
    gpt(tokens(len(counts), max(counts), seed=2), cache)
    return cache


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
@torch.inference_mode()
def test_says_what_the_cache_says(preset):
    gpt = model(preset)
    expected, cache = filled(gpt), filled(gpt)
    step = OneTokenEach(cache)
    for seed in range(LENGTH - 12 - 2):
        if seed == 5:  # a pass of several tokens in between, as for a tool's output
            ids = tokens(3, 2, seed=99)
            assert torch.allclose(gpt(ids, cache), gpt(ids, expected), atol=1e-4)
        ids = tokens(3, 1, seed=seed)
        wanted = gpt.logits(gpt(ids, expected))[:, 0]
        step.begin(cache, ids[:, 0].tolist())
        assert torch.allclose(gpt.logits(gpt(step.inputs[0], step))[:, 0], wanted, atol=1e-4)
        cache.advance(1)
        assert cache.lengths == expected.lengths
    assert max(cache.lengths) == LENGTH


@torch.inference_mode()
def test_rows_that_have_ended_disturb_nobody():
    gpt = model()
    alone, cache = filled(gpt, (LENGTH - 4,)), filled(gpt, (LENGTH - 4, LENGTH, 3))
    for mine, theirs in zip(alone.layers, cache.layers, strict=True):  # the same prompt
        mine.keys.copy_(theirs.keys[:1])
        mine.values.copy_(theirs.values[:1])
    alone.last_embedding = cache.last_embedding[:1]
    step = OneTokenEach(cache)
    for seed in range(4):
        ids = tokens(1, 1, seed=seed)
        cache.expect([1, 0, 0])
        step.begin(cache, [ids.item(), 7, 7])
        found = gpt.logits(gpt(step.inputs[0], step))[:, 0]
        cache.advance(1)
        assert cache.lengths == [LENGTH - 3 + seed, LENGTH, 3]
        assert torch.allclose(found[:1], gpt.logits(gpt(ids, alone))[:, 0], atol=1e-4)
    with pytest.raises(ValueError, match="more than the cache's 40"):
        step.begin(cache, [1, 1, 1])


def test_where_nothing_can_be_recorded_passes_go_on_as_they_are():
    gpt = model()
    assert not can_record(gpt)  # no GPU
    cache, recorder = filled(gpt), StepRecorder(gpt)
    with warnings.catch_warnings(record=True) as said:
        for _ in range(PASSES_BEFORE + 3):
            assert recorder.logits([1, 2, 3], cache, [0, 1, 2]) is None
    assert len(said) == 1 and "generating without CUDA graphs" in str(said[0].message)
    assert cache.step is None and cache.lengths == [9, 4, 12]


def test_memory_goes_with_the_cache():
    cache = filled(model())
    cache.step = OneTokenEach(cache)  # where a recording would be
    keys = weakref.ref(cache.layers[0].keys)
    gc.disable()
    try:
        del cache
        assert keys() is None
    finally:
        gc.enable()


class NotRecorded:
    """The pass of a recording, computed anew each time; `wrong` spoils what it says and remembers."""

    wrong = False

    def __init__(self, gpt, cache):
        self.gpt, self.step = gpt, OneTokenEach(cache)

    def __call__(self, cache, tokens):
        self.step.begin(cache, tokens)
        logits = self.gpt.logits(self.gpt(self.step.inputs[0], self.step)[:, -1])
        cache.advance(1)
        if self.wrong:
            cache.layers[0].keys.zero_()
            logits = -logits
        return logits


@pytest.mark.parametrize("wrong", [False, True])
def test_the_first_recording_is_checked_and_given_up_if_it_is_wrong(monkeypatch, recwarn, wrong):
    monkeypatch.setattr(recorded_steps, "RecordedStep", NotRecorded)
    monkeypatch.setattr(NotRecorded, "wrong", wrong)
    gpt = model()
    recorder, recorded = StepRecorder(gpt), 0
    with torch.inference_mode():
        cache, expected = filled(gpt), filled(gpt)
        for seed in range(PASSES_BEFORE + CHECKS + 3):
            ids = tokens(3, 1, seed=seed)
            counts = [1, 1, int(seed < 4)]  # the last row ends
            cache.expect(counts)
            expected.expect(counts)
            wanted = gpt.logits(gpt(ids, expected)[:, -1])
            found = recorder.logits(ids[:, 0].tolist(), cache, [0, 1])
            recorded += found is not None
            found = gpt.logits(gpt(ids, cache)[:2, -1]) if found is None else found
            assert torch.allclose(found, wanted[:2], atol=1e-4) and cache.lengths == expected.lengths
    assert (cache.step is None) == recorder.failed == wrong and recorder._checked is None
    assert recorded == (1 if wrong else CHECKS + 3)
    assert any("said something else" in str(warning.message) for warning in recwarn) == wrong
