"""The laid-out forward pass against the model's own, and against itself in other company."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from tests.vnc.random_models import random_ids, random_model, small_tokenizer
from vnc.cache import KVCache
from vnc.decoding import c_decoder
from vnc.decoding import decoder as torch_decoder
from vnc.decoding.decoder import Decoder, Product, can_decode, has_bf16_products, one_thread
from vnc.engine import Engine, freeze
from vnc.gpt import GPT

pytestmark = pytest.mark.usefixtures("inference_on_one_thread")
needs_bf16 = pytest.mark.skipif(not has_bf16_products(), reason="this CPU, or this torch, has no bf16 products")


def new_cache(gpt: GPT, rows: int) -> KVCache:
    return KVCache(gpt.config, rows, 64, torch.float32)


@pytest.mark.parametrize("chunks", [[1] * 64, [30, 1, 1, 1, 1, 30], [3, 4, 5, 6, 13, 33], [64], [17, 16, 1, 30]])
def test_the_last_state_of_any_chunking_is_the_models(decoded_preset: str, chunks: list[int]) -> None:
    gpt, ids = random_model(decoded_preset), random_ids(2, 64)
    expected, cache = gpt(ids), new_cache(gpt, 2)
    decoder, at = Decoder(gpt), 0
    for size in chunks:
        found = decoder.hidden(ids[:, at : at + size], cache, [size - 1] * 2)
        at += size
        torch.testing.assert_close(found, expected[:, at - 1], rtol=0, atol=2e-5)
    assert cache.lengths == [64, 64]


def test_rows_of_different_lengths(decoded_preset: str) -> None:
    """Ragged prompts and turns, rows that pause and one that joins; logits only of the rows that are due."""
    gpt, ids = random_model(decoded_preset), random_ids(4, 64)
    expected, cache, decoder = gpt.logits(gpt(ids)), new_cache(gpt, 4), Decoder(gpt)
    at = [0] * 4
    for counts in ([3, 17, 29, 0], [1, 1, 1, 0], [1, 0, 1, 20], [0, 5, 0, 3], [9, 2, 1, 30], [1, 1, 1, 1]):
        width = max(counts)
        rows = [[*ids[b, at[b] : at[b] + n].tolist(), *[7] * (width - n)] for b, n in enumerate(counts)]
        at = [start + n for start, n in zip(at, counts, strict=True)]
        due = [b for b, n in enumerate(counts) if n and b != 2]
        cache.expect(counts)
        found = decoder.logits(torch.tensor(rows), cache, [max(0, n - 1) for n in counts], due)
        assert found.shape == (len(due), 97) and found.dtype == torch.float32
        for b, logits in zip(due, found, strict=True):
            torch.testing.assert_close(logits, expected[b, at[b] - 1], rtol=0, atol=5e-5)
    assert cache.lengths == at


@needs_bf16
def test_bf16_is_as_near_to_the_exact_states_as_the_models_own_pass(decoded_preset: str) -> None:
    ids = random_ids(2, 64)
    exact, gpt = random_model(decoded_preset), random_model(decoded_preset, torch.bfloat16)
    decoder, cache, own = Decoder(gpt), new_cache(gpt, 2), new_cache(gpt, 2)
    of_decoder, of_model = [], []
    for start, end in [(0, 30), *((at, at + 1) for at in range(30, 64))]:
        of_decoder.append(decoder.hidden(ids[:, start:end], cache, [end - start - 1] * 2))
        of_model.append(gpt(ids[:, start:end], own)[:, -1])
    states = exact(ids)[:, 29:].transpose(0, 1)
    error, allowed = ((torch.stack(found).float() - states).square().mean().sqrt() for found in (of_decoder, of_model))
    assert 0 < error < 1.05 * allowed


@needs_bf16
def test_products_in_bf16_are_the_same_bits_as_plain_ones() -> None:
    """However many rows are multiplied, so that a row's result does not depend on others, and by however many threads,
    so that a clock may choose them."""
    generator = torch.Generator().manual_seed(0)
    for out, into in ((194, 64), (64, 256), (290, 64), (1536, 512), (512, 2048)):
        weight, x = (torch.randn(n, into, generator=generator).bfloat16() for n in (out, 300))
        bias = torch.randn(out, generator=generator).bfloat16()
        product = Product(weight, bias)
        assert product.reordered
        plain = F.linear(x, weight, bias)
        for threads, rows in itertools.product((1, 2, 4), (1, 3, 8, 17, 300)):
            torch.set_num_threads(threads)
            assert torch.equal(product(x[:rows]), plain[:rows])


@needs_bf16
@pytest.mark.parametrize("threads", [1, 2])
def test_not_one_bit_depends_on_neighbours_or_threads(decoded_preset: str, threads: int) -> None:
    """A row alone, its tokens one by one or a few together, and beside three others, on one thread or on `threads` as
    trials have it."""
    gpt = random_model(decoded_preset, torch.bfloat16)
    decoder, ids = Decoder(gpt), random_ids(4, 60)
    together, alone, few = new_cache(gpt, 4), new_cache(gpt, 1), new_cache(gpt, 1)

    def read(row: int, length: int, count: int) -> KVCache:
        reader = new_cache(gpt, 1)
        torch.set_num_threads(count)
        decoder.hidden(ids[row : row + 1, :length], reader, [length - 1])
        return reader

    for row, length in enumerate([3, 20, 41, 9]):
        together.adopt(row, read(row, length, threads))
    for cache in (alone, few):
        cache.adopt(0, read(1, 20, 1))
    torch.set_num_threads(threads)
    for step in range(16):
        at = torch.tensor([3, 20, 41, 9]) + step
        beside = decoder.logits(ids[torch.arange(4), at][:, None], together, [0] * 4, range(4))
        by_itself = decoder.logits(ids[1:2, 20 + step, None], alone, [0], [0])
        assert torch.equal(beside[1], by_itself[0])
        if step % 4 == 3:
            at_once = decoder.logits(ids[1:2, 17 + step : 21 + step], few, [3], [0])
            assert torch.equal(at_once, by_itself)
    assert torch.get_num_threads() == threads


def test_one_thread_while_it_lasts() -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="inside"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 2


def threads_taken(
    decoder: Decoder, gpt: GPT, passes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """By passes of (rows, width) tokens, where torch has two."""
    inside, seen = decoder.hidden, []
    monkeypatch.setattr(decoder, "hidden", lambda *given: (seen.append(torch.get_num_threads()), inside(*given))[1])
    torch.set_num_threads(2)
    for rows, width in passes:
        decoder.logits(random_ids(rows, width), new_cache(gpt, rows), [width - 1] * rows, range(rows))
    assert torch.get_num_threads() == 2
    return seen


def test_few_tokens_of_a_small_model_take_one_thread_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = random_model("modern")
    decoder = Decoder(gpt)
    monkeypatch.setattr(torch_decoder, "ONE_THREAD_BYTES", 3 * decoder.nbytes)
    assert threads_taken(decoder, gpt, [(2, 1), (3, 1), (1, 2), (2, 5)], monkeypatch) == [1, 2, 1, 2]


@needs_bf16
def test_in_bf16_the_faster_number_of_threads_is_taken_for_each_size_of_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = random_model("modern", torch.bfloat16)
    decoder, clock = Decoder(gpt), [0.0]
    costs = {(1, 1): 2, (1, 2): 1, (8, 1): 3, (8, 2): 4}  # seconds by rows and threads

    def cap(logits: torch.Tensor, _: float) -> torch.Tensor:
        clock[0] += costs[len(logits), torch.get_num_threads()]
        return logits

    monkeypatch.setattr(torch_decoder, "cap_logits", cap)
    monkeypatch.setattr(torch_decoder.time, "perf_counter", lambda: clock[0])
    seen = threads_taken(decoder, gpt, [(1, 1), (8, 1)] * 7, monkeypatch)
    assert seen[::2] == [2, 2, 2, 1, 1, 2, 2]
    assert seen[1::2] == [2, 2, 2, 1, 1, 1, 1]


def test_a_prompts_other_positions_skip_the_last_layer_and_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = random_model("modern")
    decoder = Decoder(gpt)
    names = {decoder.head: "head"} | {layer.mlp_proj: f"mlp {at}" for at, layer in enumerate(decoder.layers)}
    names |= {layer.qkv: f"qkv {at}" for at, layer in enumerate(decoder.layers)}
    positions: dict[str, int] = {}

    def recorded(method):
        def call(product, x, *rest):
            if product in names:
                positions[names[product]] = x[..., 0].numel()
            return method(product, x, *rest)

        return call

    monkeypatch.setattr(Product, "__call__", recorded(Product.__call__))
    decoder.logits(random_ids(2, 30), new_cache(gpt, 2), [29, 29], [1])
    assert positions == {f"qkv {at}": 60 for at in range(4)} | {f"mlp {at}": 60 for at in range(3)} | {
        "mlp 3": 2,
        "head": 1,
    }


def test_only_frozen_models_are_decoded_so_that_training_is_seen() -> None:
    tokenizer = small_tokenizer()
    gpt = random_model("modern", vocab_size=tokenizer.vocab_size)
    assert can_decode(gpt) and not can_decode(GPT(gpt.config, torch.bfloat16).requires_grad_(False))  # fp32 weights
    assert not can_decode(gpt.requires_grad_(True))
    engine = Engine(gpt, tokenizer)
    before = engine.generate([[3, 4, 5]], max_tokens=12, stop_ids=())
    with torch.no_grad():
        gpt.head.copy_(gpt.head.flip(0))
    after = engine.generate([[3, 4, 5]], max_tokens=12, stop_ids=())
    assert after != before
    assert Engine(freeze(gpt), tokenizer).generate([[3, 4, 5]], max_tokens=12, stop_ids=()) == after


@pytest.mark.parametrize("in_c", [True, False])
def test_a_prompt_read_in_pieces_is_answered_as_one_read_at_once(
    decoded_preset: str, in_c: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_c:
        monkeypatch.setattr(c_decoder, "library", lambda *page: None)
    tokenizer = small_tokenizer()
    engine = Engine(random_model(decoded_preset, vocab_size=tokenizer.vocab_size), tokenizer)
    prompt = random_ids(1, 40)[0].tolist()
    cache = engine.new_cache(1)
    for first in (0, 17):
        engine.read(prompt[first : first + 17], cache)
    said = [event.token for event in engine.stream([prompt[34:]], max_tokens=12, stop_ids=(), cache=cache)]
    assert said[:-1] == engine.generate([prompt], max_tokens=12, stop_ids=())[0]


@pytest.mark.parametrize("decoder_first", [True, False])
def test_a_cache_belongs_to_the_passes_that_filled_it(decoder_first: bool) -> None:
    """Keys lie in another order in those of the model itself."""
    gpt = random_model("modern")
    decoder, ids = Decoder(gpt), random_ids(1, 4)

    def read(cache: KVCache, by_decoder: bool) -> None:
        if by_decoder:
            decoder.hidden(ids, cache, [3])
        else:
            gpt(ids, cache)

    cache = new_cache(gpt, 1)
    read(cache, decoder_first)
    branch, adopted = cache.select([0]), new_cache(gpt, 2)
    adopted.adopt(0, cache)
    for each in (cache, branch):
        with pytest.raises(ValueError, match="passes alone"):
            read(each, not decoder_first)
        assert each.lengths == [4]
        read(each, decoder_first)
    with pytest.raises(ValueError, match="passes alone"):
        adopted.positions(1, "gpt.py" if decoder_first else "decoding/decoder.py")
    cache.clear()
    read(cache, not decoder_first)


def test_a_last_layer_with_a_window_is_refused() -> None:
    gpt = random_model("modern")
    windowed = new_cache(gpt, 1).layers[0]
    q = torch.zeros(1, 2, 3, 32)
    windowed.timeline.begin(3)
    with pytest.raises(ValueError, match="a window of 5"):
        windowed.attend_last(q, q, q, 1.0, [2])
