"""The forward pass in C against the model's own, and against itself in other company."""

from dataclasses import dataclass

import pytest
import torch

from tests.vnc.random_models import Windowed, random_ids, random_model
from vnc.c import library as c_library
from vnc.c.library import library
from vnc.cache import KVCache
from vnc.decoding.c_decoder import CDecoder, can_decode_in_c, panels
from vnc.engine import plain_cache
from vnc.gpt import GPT
from vnc.precision import cpu_flags

pytestmark = [
    pytest.mark.skipif(library("decoder", torch.float32) is None, reason="no C compiler here, or a CPU without AVX2"),
    pytest.mark.usefixtures("inference_on_one_thread"),
]
needs_bf16 = pytest.mark.skipif(library("decoder", torch.bfloat16) is None, reason="a CPU without AVX512-BF16")
DTYPES = [torch.float32, pytest.param(torch.bfloat16, marks=needs_bf16)]


@dataclass(frozen=True)
class Long(Windowed):
    """Windows that end inside a panel of keys, and beyond the first one."""

    @property
    def windows(self) -> tuple[int, ...]:
        return (5, 70, 130, self.sequence_len)


@dataclass(frozen=True)
class Shallow(Windowed):
    """Of one or two layers, the last of which sees everything."""

    @property
    def windows(self) -> tuple[int, ...]:
        return (5, self.sequence_len)[-self.n_layer :]


SHAPES = {
    "as in the other tests": dict(),
    "several panels of keys": dict(kind=Long, sequence_len=200),
    "a head of more than one panel": dict(n_embd=192, n_head=2),
    "odd sizes": dict(n_embd=76, n_head=2, vocab_size=131),
    "one layer": dict(kind=Shallow, n_layer=1, n_head=1, n_embd=32),
    "two layers": dict(kind=Shallow, n_layer=2),
}


def shaped(shape: str, preset: str, dtype: torch.dtype = torch.float32) -> GPT:
    return random_model(preset, dtype, **SHAPES[shape])


def feed(decoder: CDecoder, ids: torch.Tensor, cache: KVCache, sizes: list[int]) -> torch.Tensor:
    """(B, T) ids in passes of so many for each row -> the logits after each pass, (passes, B, V)."""
    found, at = [], 0
    for size in sizes:
        found.append(decoder.logits([row[at : at + size].tolist() for row in ids], cache, range(len(ids))))
        at += size
    return torch.stack(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [[1] * 64, [30, 1, 1, 1, 1, 30], [3, 4, 5, 6, 13, 33], [64], [17, 16, 1, 30]])
def test_the_logits_of_any_chunking_are_the_models(shape: str, decoded_preset: str, chunks: list[int]) -> None:
    gpt = shaped(shape, decoded_preset)
    if gpt.config.sequence_len == 200:
        chunks = [*chunks, *chunks, 1, 7]
    ids, decoder = random_ids(2, sum(chunks)), CDecoder(gpt)
    cache = decoder.new_cache(2, gpt.config.sequence_len)
    ends = torch.tensor(chunks).cumsum(0) - 1
    expected = gpt.logits(gpt(ids))[:, ends].transpose(0, 1)
    torch.testing.assert_close(feed(decoder, ids, cache, chunks), expected, rtol=0, atol=1e-4)
    assert cache.lengths == [sum(chunks)] * 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_different_lengths(decoded_preset: str, dtype: torch.dtype) -> None:
    """Ragged prompts and turns, rows that pause and one that joins; logits only of the rows that are due, to the last
    bit those that each row has alone."""
    gpt, ids = random_model(decoded_preset, dtype), random_ids(4, 64)
    exact, decoder = gpt.logits(gpt(ids)), CDecoder(gpt)
    cache, at = decoder.new_cache(4, 64), [0] * 4
    alone = [feed(decoder, ids[row : row + 1], decoder.new_cache(1, 64), [1] * 64)[:, 0] for row in range(4)]
    for counts in ([3, 17, 29, 0], [1, 1, 1, 0], [1, 0, 1, 20], [0, 5, 0, 3], [9, 2, 1, 30], [1, 1, 1, 1]):
        fed = [ids[b, at[b] : at[b] + n].tolist() for b, n in enumerate(counts)]
        at = [start + n for start, n in zip(at, counts, strict=True)]
        due = [b for b, n in enumerate(counts) if n and b != 2][::-1]
        found = decoder.logits(fed, cache, due)
        assert found.shape == (len(due), 97) and found.dtype == torch.float32
        for b, logits in zip(due, found, strict=True):
            assert torch.equal(logits, alone[b][at[b] - 1])
            tolerance = 1e-4 if dtype == torch.float32 else 0.25
            torch.testing.assert_close(logits, exact[b, at[b] - 1], rtol=0, atol=tolerance)
    assert cache.lengths == at


@needs_bf16
def test_bf16_is_as_near_to_the_exact_logits_as_the_models_own_pass(decoded_preset: str) -> None:
    ids, sizes = random_ids(2, 64), [30] + [1] * 34
    exact, gpt = random_model(decoded_preset), random_model(decoded_preset, torch.bfloat16)
    own, by_model, at = plain_cache(gpt, 2, 64), [], 0
    for size in sizes:
        by_model.append(gpt.logits(gpt(ids[:, at : at + size], own)[:, -1]))
        at += size
    decoder = CDecoder(gpt)
    in_c = feed(decoder, ids, decoder.new_cache(2, 64), sizes)
    expected = exact.logits(exact(ids))[:, 29:].transpose(0, 1)
    error, allowed = ((found - expected).square().mean().sqrt() for found in (in_c, torch.stack(by_model)))
    assert 0 < error < allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["as in the other tests", "several panels of keys"])
def test_not_one_bit_depends_on_the_size_of_passes_or_on_threads(
    shape: str, decoded_preset: str, dtype: torch.dtype
) -> None:
    gpt = shaped(shape, decoded_preset, dtype)
    length = gpt.config.sequence_len
    ids, decoder = random_ids(3, length), CDecoder(gpt)
    expected = feed(decoder, ids, decoder.new_cache(3, length), [1] * length)
    for threads, chunks in ((1, [length]), (2, [20, 1, 2, 3, 4, 5, 6, 7, 16]), (3, [1] * 9)):
        torch.set_num_threads(threads)
        decoder._trials.clear()
        ends = torch.tensor(chunks).cumsum(0) - 1
        assert torch.equal(feed(decoder, ids, decoder.new_cache(3, length), chunks), expected[ends])


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_of_a_cache_go_on_as_the_original(decoded_preset: str, dtype: torch.dtype) -> None:
    gpt = shaped("several panels of keys", decoded_preset, dtype)
    ids, decoder = random_ids(2, 150), CDecoder(gpt)
    original = decoder.new_cache(2, 200)
    feed(decoder, ids[:, :99], original, [99])
    branch, adopted = original.select([1, 0, 1]), decoder.new_cache(3, 200)
    feed(decoder, random_ids(3, 200), adopted, [180])  # whatever it held
    for row in (0, 2):
        adopted.adopt(row, original.select([1]))
    expected = feed(decoder, ids[:, 99:], original, [1] * 51)[:, 1]
    assert torch.equal(feed(decoder, ids[[1, 0, 1], 99:], branch, [1] * 51)[:, 2], expected)
    for at in range(99, 150):
        token = int(ids[1, at])
        assert torch.equal(decoder.logits([[token], [], [token]], adopted, [2])[0], expected[at - 99])


def test_a_soft_cap_is_left_out_where_only_the_order_counts() -> None:
    gpt, ids = random_model("modern"), [[3, 1, 4]]
    decoder = CDecoder(gpt)
    capped, plain = (decoder.logits(ids, decoder.new_cache(1, 64), [0], capped=capped) for capped in (True, False))
    torch.testing.assert_close(capped, 15 * torch.tanh(plain / 15))
    assert capped.abs().max() < plain.abs().max()


def test_only_frozen_models_of_even_heads_are_accepted() -> None:
    gpt = random_model("modern")
    assert can_decode_in_c(gpt) and not can_decode_in_c(random_model("gpt2", n_embd=66))
    assert not can_decode_in_c(GPT(gpt.config))
    gpt.blocks[2].mlp.fc.weight.requires_grad_(True)
    assert not can_decode_in_c(gpt)


def test_what_would_reach_beyond_its_memory_is_refused() -> None:
    decoder = CDecoder(random_model("modern"))
    cache = decoder.new_cache(2, 64)
    for fed, due in (([[97 + 31], [1]], [0]), ([[-1], [1]], [0]), ([[1], []], [1]), ([[1], [2]], [2])):
        with pytest.raises((ValueError, IndexError)):
            decoder.logits(fed, cache, due)
    for other in (
        plain_cache(random_model("modern"), 2, 64),
        CDecoder(random_model("gpt2")).new_cache(2, 64),
        decoder.new_cache(2, 65),
    ):
        with pytest.raises(ValueError, match="cache of"):
            decoder.logits([[1], [2]], other, [0])
    with pytest.raises(ValueError, match="65 positions"):
        decoder.logits([[1] * 65, [2]], cache, [0])
    with pytest.raises(ValueError, match="2 rows"):
        decoder.logits([[1]], cache, [0])
    assert cache.lengths == [0, 0]
    assert decoder.logits([[1], [2]], cache, [0]).isfinite().all()
    with pytest.raises(ValueError, match="passes alone"):
        random_model("modern")(torch.tensor([[1], [2]]), cache)


def test_a_matrix_in_panels() -> None:
    weight = torch.arange(6.0)[:, None] * 10 + torch.arange(4.0)  # 10 out + in
    found = panels(weight.bfloat16(), 4)
    assert found.shape == (2, 2, 4, 2)
    assert found[0, 1].tolist() == [[2, 3], [12, 13], [22, 23], [32, 33]]
    assert found[1, 0].tolist() == [[40, 41], [50, 51], [0, 0], [0, 0]]
    assert panels(weight, 4)[1, 3, :, 0].tolist() == [43, 53, 0, 0]


@pytest.mark.skipif("avx512f" not in cpu_flags(), reason="this CPU has no AVX-512: the other tests are of AVX2 here")
def test_the_page_for_processors_without_avx512(decoded_preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_library, "FLAGS", (*c_library.FLAGS, "-mno-avx512f"))
    library.cache_clear()
    try:
        gpt, ids = random_model(decoded_preset), random_ids(2, 64)
        decoder = CDecoder(gpt)
        assert decoder._columns == 16
        found = feed(decoder, ids, decoder.new_cache(2, 64), [20, 1, 43])
        expected = gpt.logits(gpt(ids))[:, [19, 20, 63]].transpose(0, 1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    finally:
        library.cache_clear()
