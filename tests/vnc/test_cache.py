"""The cache against the forward pass without one: whatever the order in which tokens arrive, the same hidden states."""

from dataclasses import dataclass

import pytest
import torch

from vnc.cache import KVCache
from vnc.config import GPTConfig
from vnc.gpt import GPT
from vnc.precision import cpu_bf16_feature


@dataclass(frozen=True)
class Windowed(GPTConfig):
    """Two layers with windows much shorter than the tests' prompts, one in between, one that sees everything."""

    @property
    def windows(self) -> tuple[int, ...]:
        return (5, 12, 5, self.sequence_len)


SIZES = dict(vocab_size=97, sequence_len=64, n_layer=4, n_head=2, n_embd=64)


def random_model(preset: str, dtype: torch.dtype = torch.float32) -> GPT:
    """Every parameter random, those that training starts at zero too, so that each part matters."""
    config = Windowed(**SIZES) if preset == "modern" else Windowed.gpt2(**SIZES)
    gpt, generator = GPT(config, dtype), torch.Generator().manual_seed(1)
    for name, parameter in gpt.named_parameters():
        mean = 0.0 if parameter.dim() > 1 or "bias" in name else 0.5
        parameter.data.normal_(mean, 0.2, generator=generator)
    return gpt.requires_grad_(False)


@pytest.fixture(scope="module", params=["modern", "gpt2"])
def gpt(request: pytest.FixtureRequest) -> GPT:
    return random_model(request.param)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 97, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("chunks", [[64], [1] * 64, [30, 1, 1, 1, 1, 30], [3, 4, 5, 6, 13, 33], [40] + [1] * 24])
def test_any_chunking_gives_the_uncached_states(gpt: GPT, chunks: list[int]) -> None:
    ids = random_ids(2, sum(chunks))
    expected = gpt(ids)
    cache = KVCache(gpt.config, 2, 64, torch.float32)
    hidden = torch.cat([gpt(piece, cache) for piece in ids.split(chunks, 1)], 1)
    assert_same(hidden, expected)
    assert cache.lengths == [64, 64]


def test_rows_of_different_lengths_in_any_rhythm(gpt: GPT) -> None:
    """Ragged prompts, ragged later turns, single tokens, rows that pause and one that joins, against each row alone."""
    ids = random_ids(5, 64)
    expected = gpt(ids)
    schedule = [
        [3, 17, 29, 1, 0],  # prompts
        [1, 1, 1, 1, 0],
        [1, 0, 1, 1, 0],  # one row has ended, or waits
        [0, 0, 5, 20, 0],  # the next turn of some
        [9, 2, 0, 3, 30],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0],
        [14, 1, 1, 6, 2],
    ]
    cache, at = KVCache(gpt.config, 5, 50, torch.float32), [0] * 5
    for counts in schedule:
        width = max(*counts, 1)
        rows = [[*ids[b, at[b] : at[b] + count].tolist(), *[7] * (width - count)] for b, count in enumerate(counts)]
        cache.expect(counts)
        hidden = gpt(torch.tensor(rows), cache)
        assert hidden.isfinite().all()
        for b, count in enumerate(counts):
            assert_same(hidden[b, :count], expected[b, at[b] : at[b] + count])
            at[b] += count
    assert cache.lengths == at


def test_select_branches_and_drops_rows(gpt: GPT) -> None:
    ids = random_ids(3, 40)
    cache = KVCache(gpt.config, 2, 64, torch.float32)
    cache.expect([20, 9])
    gpt(ids[:2, :20], cache)
    branched = cache.select([1, 0, 1])
    assert branched.lengths == [9, 20, 9]
    hidden = gpt(ids[:, 20:], branched)
    for b, beginning in enumerate((ids[1, :9], ids[0, :20], ids[1, :9])):
        whole = torch.cat((beginning, ids[b, 20:]))[None]
        assert_same(hidden[b], gpt(whole)[0, beginning.numel() :])
    # The cache it came from is untouched.
    assert cache.lengths == [20, 9]
    assert_same(gpt(ids[:2, 20:21], cache)[0, 0], gpt(ids[:1, :21])[0, 20])


def test_window_layers_keep_their_window_only(gpt: GPT) -> None:
    cache = KVCache(gpt.config, 3, 64, torch.float32)
    assert [layer.keys.size(2) for layer in cache.layers] == [5, 12, 5, 64]
    assert cache.nbytes == 2 * 3 * 64 * 4 * (5 + 12 + 5 + 64)  # keys and values, rows, width, bytes, slots
    assert [layer.keys.size(2) for layer in KVCache(gpt.config, 1, 8, torch.float32).layers] == [5, 8, 5, 8]


def test_decoding_allocates_no_cache() -> None:
    gpt = random_model("modern")
    cache = KVCache(gpt.config, 1, 64, torch.float32)
    gpt(random_ids(1, 30), cache)
    before = [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers]
    for token in range(10):
        gpt(torch.tensor([[token]]), cache)
    assert [(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache.layers] == before


def test_stored_in_another_dtype_than_computed() -> None:
    """bf16 products with the cache in fp32, as on the CPU: as near to the uncached bf16 pass as bf16 allows."""
    gpt = random_model("modern", torch.bfloat16)
    ids = random_ids(2, 40)
    exact = random_model("modern")(ids)
    cache = KVCache(gpt.config, 2, 64, torch.float32)
    hidden = torch.cat([gpt(piece, cache) for piece in ids.split([20, 19, 1], 1)], 1)
    assert hidden.dtype == torch.bfloat16
    error = (hidden.float() - exact).square().mean().sqrt()
    allowed = (gpt(ids).float() - exact).square().mean().sqrt()
    assert error < 1.2 * allowed


def test_no_room_is_refused_before_anything_is_written(gpt: GPT) -> None:
    cache = KVCache(gpt.config, 2, 10, torch.float32)
    ids = random_ids(2, 12)
    gpt(ids[:, :8], cache)
    with pytest.raises(ValueError, match="11 positions, more than the cache's 10"):
        gpt(ids[:, 8:11], cache)
    with pytest.raises(ValueError, match="cannot bring counts"):
        cache.expect([1, 3])
        gpt(ids[:, 8:10], cache)
    assert_same(gpt(ids[:, 8:10], cache), gpt(ids[:, :10])[:, 8:])


@pytest.mark.skipif(not cpu_bf16_feature(), reason="this CPU has no bf16 products of its own")
@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_a_few_tokens_in_one_pass_or_one_by_one_beside_others_not_one_bit_differs(preset: str) -> None:
    """Windows of 5 and 12 go round within these passes, and the other rows are longer and shorter."""
    gpt, ids = random_model(preset, torch.bfloat16), random_ids(4, 60)
    alone = KVCache(gpt.config, 1, 64, torch.float32)
    prompt = gpt(ids[:1, :20], alone)
    together = KVCache(gpt.config, 4, 64, torch.float32)
    for row, length in ((0, 3), (3, 41), (1, 20)):
        reader = KVCache(gpt.config, 1, 64, torch.float32)
        own = ids[:1] if row == 1 else ids[row : row + 1]
        read = gpt(own[:, :length], reader)
        together.adopt(row, reader)
    assert torch.equal(read, prompt) and together.lengths == [3, 20, 0, 41]
    expected = torch.cat([gpt(ids[:1, 20:21], alone), gpt(ids[:1, 21:33], alone), gpt(ids[:1, 33:36], alone)], 1)
    for place in range(16):
        together.expect([1, 1, 0, 1])
        found = gpt(torch.stack([ids[0, place], ids[0, 20 + place], ids[2, 0], ids[3, place]])[:, None], together)
        assert torch.equal(found[1, 0], expected[0, place])


def test_a_row_is_taken_over_whatever_it_held(gpt: GPT) -> None:
    ids = random_ids(3, 60)
    cache, reader = KVCache(gpt.config, 2, 64, torch.float32), KVCache(gpt.config, 1, 64, torch.float32)
    gpt(ids[:2, :40], cache)
    gpt(ids[1:2, :50], reader)
    reader.clear()
    assert reader.lengths == [0]
    gpt(ids[2:, :7], reader)
    cache.adopt(0, reader)
    assert cache.lengths == [7, 40]
    hidden = gpt(torch.stack([ids[2, 7:27], ids[1, 40:60]]), cache)
    assert_same(hidden[0], gpt(ids[2:, :27])[0, 7:])
    assert_same(hidden[1], gpt(ids[1:2])[0, 40:])


@pytest.mark.skipif(not cpu_bf16_feature(), reason="promised, and tried, only where products are bf16 by default")
@pytest.mark.parametrize("threads", [1, 2])
def test_attention_does_not_depend_on_neighbours_in_one_bit(threads: int) -> None:
    """The attention alone, in fp32, where any other order of summing shows: a row by itself, its tokens one by one or
    a few together, against the same row beside two longer ones and a shorter one."""
    torch.set_num_threads(threads)
    config = Windowed(**(SIZES | {"sequence_len": 256}))
    generator = torch.Generator().manual_seed(2)
    qkv = torch.randn(3, 4, config.n_head, 256, config.head_dim, generator=generator)

    def read(cache: KVCache, rows: list[int], starts: list[int], tokens: int) -> list[torch.Tensor]:
        positions = torch.tensor(starts)[:, None] + torch.arange(tokens)
        picked = qkv[:, torch.tensor(rows)[:, None], :, positions]  # (B, T, 3, H, D)
        q, k, v = picked.permute(2, 0, 3, 1, 4)
        cache.positions(tokens)
        found = [layer.attend(q, k, v, 0.3) for layer in cache.layers]
        cache.advance(tokens)
        return found

    def reader(row: int, length: int) -> KVCache:
        cache = KVCache(config, 1, 256, torch.float32)
        read(cache, [row], [0], length)
        return cache

    starts = [70, 23, 130, 7]
    together = KVCache(config, 4, 256, torch.float32)
    for row, length in enumerate(starts):
        together.adopt(row, reader(row, length))
    alone, few = reader(1, 23), reader(1, 23)
    for first in range(0, 120, 6):
        at_once = read(few, [1], [23 + first], 6)
        for step in range(first, first + 6):
            beside = read(together, [0, 1, 2, 3], [start + step for start in starts], 1)
            by_itself = read(alone, [1], [23 + step], 1)
            for one, other, third in zip(by_itself, beside, at_once, strict=True):
                assert torch.equal(one[0], other[1])
                assert torch.equal(one[0, :, 0], third[0, :, step - first])
