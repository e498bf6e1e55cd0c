"""Generation against the forward pass without a cache."""

from dataclasses import dataclass

import pytest
import torch

from tests.vnc.engine_events import ends, queued, small_vocabulary
from vnc.config import GPTConfig
from vnc.engine import Engine, freeze, frozen_copy, newest_part
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.precision import cpu_bf16_feature
from vnc.sampling import GREEDY, Sampling
from vnc.tokenizer import Tokenizer


@dataclass(frozen=True)
class Windowed(GPTConfig):
    @property
    def windows(self) -> tuple[int, ...]:
        return (5, 12, self.sequence_len)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_vocabulary()


def random_model(preset: str, vocab_size: int, dtype: torch.dtype = torch.float32, context: int = 64) -> GPT:
    sizes = dict(vocab_size=vocab_size, sequence_len=context, n_layer=3, n_head=2, n_embd=64)
    gpt = GPT(Windowed(**sizes) if preset == "modern" else Windowed.gpt2(**sizes), dtype)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in gpt.named_parameters():
        mean = 0.0 if parameter.dim() > 1 or "bias" in name else 0.5
        parameter.data.normal_(mean, 0.2, generator=generator)
    return gpt


@pytest.fixture(scope="module", params=["modern", "gpt2"])
def engine(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Engine:
    return Engine(random_model(request.param, tokenizer.vocab_size), tokenizer)


PROMPTS = [[3], list(range(40, 71)), [9, 8, 7, 6, 5, 4], list(range(100, 117))]


@torch.inference_mode()
def uncached(gpt: GPT, prompt: list[int], count: int) -> list[int]:
    """The greedy continuation, the whole sequence computed anew for each token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(gpt.logits(gpt(torch.tensor([ids]))[0, -1]).argmax()))
    return ids[len(prompt) :]


def test_greedy_is_the_uncached_forward_token_by_token(engine: Engine) -> None:
    """Four prompts of different lengths, in one batch and alone; windows much shorter than the prompts."""
    expected = [uncached(engine.gpt, prompt, 30) for prompt in PROMPTS]
    assert all(len(set(said)) > 4 for said in expected)  # not stuck on one token
    assert engine.generate(PROMPTS, max_tokens=30, stop_ids=()) == expected
    for prompt, said in zip(PROMPTS, expected, strict=True):
        assert engine.generate([prompt], max_tokens=30, stop_ids=()) == [said]


def test_rows_stop_on_their_own(engine: Engine) -> None:
    """Each row has another place to stop, so the batch shrinks while it goes on."""
    expected = [uncached(engine.gpt, prompt, 33) for prompt in PROMPTS]

    def first(token: int) -> list[int | None]:
        return [said.index(token) if token in said else None for said in expected]

    stop = max({token for said in expected for token in said}, key=lambda token: len(set(first(token))))
    cut = first(stop)
    assert len(set(cut)) >= 3
    assert engine.generate(PROMPTS, max_tokens=33, stop_ids=[stop]) == [
        said[:i] for said, i in zip(expected, cut, strict=True)
    ]
    events = list(engine.stream(PROMPTS, max_tokens=33, stop_ids=[stop]))
    assert ends(events) == {row: "length" if i is None else "stop" for row, i in enumerate(cut)}


def test_never_past_the_context(engine: Engine) -> None:
    prompts = [list(range(30)), list(range(64)), [5] * 63, [6]]
    events = list(engine.stream(prompts, max_tokens=40, stop_ids=()))
    said = [sum(event.row == row and event.token is not None for event in events) for row in range(4)]
    assert said == [34, 0, 1, 40]
    assert ends(events) == {0: "context", 1: "context", 2: "context", 3: "length"}
    assert engine.generate([list(range(30))], max_tokens=40, stop_ids=()) == [uncached(engine.gpt, prompts[0], 34)]


def test_turns_go_on_from_a_cache(engine: Engine) -> None:
    """Three turns on one cache, each fed only what it does not hold yet, against the whole text each time."""
    cache, ids = engine.new_cache(1), []
    for turn in ([3, 4, 5], [50] * 20, [9, 8]):
        ids += turn
        events = list(engine.stream([ids[cache.lengths[0] :]], GREEDY, 7, (), cache))
        said = [event.token for event in events if event.token is not None]
        assert said == uncached(engine.gpt, ids, 7)
        ids += said
    assert cache.lengths == [len(ids) - 1]  # all but the last word, which no one has read


def test_turns_of_a_batch_go_on_from_a_cache(engine: Engine) -> None:
    """One row ends at once, which leaves half of the batch; the next turn still finds both rows in the cache."""
    prompts = [PROMPTS[1], PROMPTS[2]]
    stop = uncached(engine.gpt, prompts[0], 1)
    cache = engine.new_cache(2)
    said: list[list[int]] = [[], []]
    for event in engine.stream(prompts, GREEDY, 6, stop, cache):
        if event.token is not None:
            said[event.row].append(event.token)
    assert said[0] == [] and len(said[1]) > 2 and said[1] == uncached(engine.gpt, prompts[1], len(said[1]))
    assert cache.lengths[0] == 31 and cache.lengths[1] >= 6 + len(said[1]) - 1  # not lost in a copy
    ids = [[*prompt, *each, 11, 12] for prompt, each in zip(prompts, said, strict=True)]
    rest = [each[length:] for each, length in zip(ids, cache.lengths, strict=True)]
    events = [event for event in engine.stream(rest, GREEDY, 5, (), cache) if event.token is not None]
    for row in (0, 1):
        assert [event.token for event in events if event.row == row] == uncached(engine.gpt, ids[row], 5)


def test_the_context_counts_what_the_cache_holds(engine: Engine) -> None:
    cache = engine.new_cache(1)
    list(engine.stream([[5] * 50], GREEDY, 1, (), cache))
    assert cache.lengths == [50]
    events = list(engine.stream([[5] * 10], GREEDY, 10, (), cache))
    assert len(events) == 5 and ends(events) == {0: "context"}
    with pytest.raises(UserError, match="prompt 0: 65 tokens"):
        list(engine.stream([[5] * 2], GREEDY, 10, (), cache))


def test_prompts_are_read_in_one_pass(engine: Engine) -> None:
    sizes: list[int] = []
    hook = engine.gpt.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].size(1)))
    engine.generate(PROMPTS, max_tokens=4, stop_ids=())
    hook.remove()
    assert sizes == [31, 1, 1, 1]


def test_breaking_off_leaves_a_usable_cache(engine: Engine) -> None:
    cache, said = engine.new_cache(1), []
    stream = engine.stream([PROMPTS[1]], GREEDY, 20, (), cache)
    for event in stream:
        said.append(event.token)
        if len(said) == 5:
            stream.close()
    ids = [*PROMPTS[1], *said, 11, 12]
    assert engine.generate([ids], max_tokens=6, stop_ids=()) == [
        [e.token for e in engine.stream([ids[cache.lengths[0] :]], GREEDY, 6, (), cache) if e.token is not None]
    ]


def test_a_sampled_row_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    sampling = Sampling(temperature=0.9, top_k=50, top_p=0.95, seed=5)
    together = engine.generate(PROMPTS, sampling, max_tokens=25, stop_ids=())
    alone = [
        engine.generate([prompt], Sampling(0.9, 50, 0.95, seed=5 + row), max_tokens=25, stop_ids=())[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert together == alone
    assert together == engine.generate(PROMPTS, sampling, max_tokens=25, stop_ids=())
    assert together != engine.generate(PROMPTS, Sampling(0.9, 50, 0.95, seed=6), max_tokens=25, stop_ids=())
    stop = together[0][8]  # a row that ends early draws no more, and the others go on as before
    assert engine.generate(PROMPTS, sampling, max_tokens=25, stop_ids=[stop]) == [
        said[: said.index(stop)] if stop in said else said for said in together
    ]


def test_a_model_in_training_is_left_as_it_is(tokenizer: Tokenizer) -> None:
    gpt = random_model("modern", tokenizer.vocab_size, torch.bfloat16).train()
    before = {name: parameter.clone() for name, parameter in gpt.named_parameters()}
    Engine(gpt, tokenizer).generate([[1, 2, 3]], max_tokens=3)
    assert gpt.training
    for name, parameter in gpt.named_parameters():
        assert parameter.requires_grad and parameter.dtype == torch.float32 and torch.equal(parameter, before[name])


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_freezing_changes_no_bit(preset: str, tokenizer: Tokenizer) -> None:
    ids = torch.arange(60).view(2, 30)
    with torch.inference_mode():
        gpt = random_model(preset, tokenizer.vocab_size, torch.bfloat16)
        before = gpt.logits(gpt(ids))
        size = sum(parameter.nbytes for parameter in gpt.parameters())
        after = freeze(gpt).logits(gpt(ids))
    assert torch.equal(before, after)
    assert sum(parameter.nbytes for parameter in gpt.parameters()) < 0.55 * size


@pytest.mark.parametrize(
    ("prompt", "room", "kept", "left_out"),
    [([7, 1, 2, 3], 4, [7, 1, 2, 3], 0), ([7, 1, 2, 3, 4, 5], 4, [7, 3, 4, 5], 2), ([7, 1, 2], 1, [7], 2)],
)
def test_newest_part(prompt: list[int], room: int, kept: list[int], left_out: int) -> None:
    assert newest_part(prompt, room) == (kept, left_out)


def test_what_cannot_be_generated_is_refused(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"prompt 1: empty"):
        engine.generate([[1], []])
    with pytest.raises(UserError, match=r"prompt 0: 65 tokens, more than the model's context of 64"):
        engine.generate([[1] * 65])
    with pytest.raises(UserError, match="max_tokens=0"):
        engine.generate([[1]], max_tokens=0)
    assert engine.generate([]) == []


@pytest.mark.parametrize("places", [1, 2, 3, 50])
def test_a_queue_says_what_each_prompt_says_alone(engine: Engine, places: int) -> None:
    """Nine prompts of all lengths; rows end at different times, so places are taken over in the middle of others."""
    prompts = [list(range(start, start + length)) for start, length in enumerate([3, 31, 1, 17, 60, 8, 64, 2, 40])]
    expected = [uncached(engine.gpt, prompt, min(20, 64 - len(prompt))) for prompt in prompts]
    stop = expected[0][5]
    cut = [said[: said.index(stop)] if stop in said else said for said in expected]
    assert len({len(said) for said in cut}) > 3
    assert queued(engine, prompts, max_tokens=20, stop_ids=[stop], places=places) == cut
    events = list(engine.stream_queue(prompts, max_tokens=20, stop_ids=[stop], places=places))
    assert ends(events) == ends(list(engine.stream(prompts, max_tokens=20, stop_ids=[stop])))
    assert len([event for event in events if event.token is None]) == len(prompts)


def test_a_queue_s_samples_do_not_depend_on_their_neighbours(engine: Engine) -> None:
    sampling = Sampling(temperature=0.9, top_k=50, seed=5)
    expected = engine.generate(PROMPTS, sampling, max_tokens=12, stop_ids=())
    for places in (1, 3):
        assert queued(engine, PROMPTS, sampling=sampling, max_tokens=12, stop_ids=(), places=places) == expected


def test_a_queue_refuses_what_a_stream_refuses(engine: Engine) -> None:
    assert queued(engine, []) == []
    with pytest.raises(UserError, match=r"prompt 1: empty"):
        queued(engine, [[1], []])
    with pytest.raises(ValueError, match="places=0"):
        queued(engine, [[1]], places=0)


@pytest.mark.skipif(not cpu_bf16_feature(), reason="this CPU has no bf16 products of its own")
@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_in_bf16_not_one_bit_depends_on_neighbours(preset: str, tokenizer: Tokenizer) -> None:
    """Greedy answers could agree by luck; so the logits are compared, at every token of every row."""
    engine = Engine(freeze(random_model(preset, tokenizer.vocab_size, torch.bfloat16)), tokenizer)
    seen: list[torch.Tensor] = []
    logits_of = engine._logits

    def keep(*arguments, **options) -> torch.Tensor:
        seen.append(logits_of(*arguments, **options))
        return seen[-1]

    engine._logits = keep
    prompts = [list(range(start, start + length)) for start, length in enumerate([3, 31, 2, 17, 44, 8, 5, 23, 40])]

    def spoken() -> set[bytes]:
        rows = {row.numpy().tobytes() for logits in seen for row in logits}
        seen.clear()
        return rows

    alone = [engine.generate([prompt], max_tokens=20, stop_ids=())[0] for prompt in prompts]
    expected = spoken()
    assert len(expected) == sum(map(len, alone))
    for places in (2, 4, 9):
        assert queued(engine, prompts, max_tokens=20, stop_ids=(), places=places) == alone
        assert spoken() == expected


@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_a_frozen_copy_says_the_same_and_leaves_the_model_alone(preset: str, tokenizer: Tokenizer) -> None:
    gpt = random_model(preset, tokenizer.vocab_size, torch.bfloat16).train()
    before = {name: parameter.clone() for name, parameter in gpt.named_parameters()}
    copy = frozen_copy(gpt)
    ids = torch.arange(60).view(2, 30)
    with torch.inference_mode():
        assert torch.equal(copy.logits(copy(ids)), gpt.logits(gpt(ids)))
    assert not copy.training and not any(parameter.requires_grad for parameter in copy.parameters())
    assert gpt.training
    for name, parameter in gpt.named_parameters():
        assert parameter.requires_grad and parameter.dtype == torch.float32 and torch.equal(parameter, before[name])
    gpt.summed_loss(ids[:, :-1], ids[:, 1:]).backward()
    assert all(parameter.grad is None for parameter in copy.parameters())
