"""The cache against the forward pass without one: whatever the order in which tokens arrive, the same hidden states."""

from dataclasses import dataclass

import pytest
import torch

from vnc.cache import KVCache
from vnc.config import GPTConfig
from vnc.gpt import GPT


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
