"""The chunked loss against torch's cross-entropy on all logits at once."""

import pytest
import torch
import torch.nn.functional as F

from vnc import loss

pytestmark = pytest.mark.usefixtures("route")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(loss, "product_tokens", lambda vocab_size, device: 13)
    monkeypatch.setattr(loss, "chunk_tokens", lambda vocab_size, device: 5)


def plain(hidden, head, targets, vocab, softcap, z_loss):
    logits = hidden @ head[:vocab].mT
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    z = torch.logsumexp(logits, -1).square()[targets >= 0].sum()
    return F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum") + z_loss * z


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("softcap", [0.0, 15.0, 2.0, 100.0])
def test_value_and_gradients_equal_the_plain_version(small_chunks, softcap, z_loss):
    torch.manual_seed(0)
    hidden = torch.randn(30, 8, requires_grad=True)
    head = (3 * torch.randn(64, 8)).requires_grad_()
    targets = torch.randint(0, 50, (30,))
    targets[::5] = -1
    expected = plain(hidden, head, targets, 50, softcap, z_loss)
    found = loss.summed_cross_entropy(hidden, head, targets, 50, softcap, z_loss)
    assert torch.allclose(found, expected, rtol=1e-5)
    wanted = torch.autograd.grad(expected / 13, (hidden, head))
    for mine, theirs in zip(torch.autograd.grad(found / 13, (hidden, head)), wanted, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_token_losses_add_up(small_chunks):
    torch.manual_seed(1)
    hidden, head, targets = torch.randn(30, 8), torch.randn(64, 8), torch.randint(0, 50, (30,))
    targets[3] = -1
    losses = loss.token_cross_entropy(hidden, head, targets, 50, 15.0)
    assert losses[3] == 0 and losses.shape == (30,)
    assert torch.allclose(losses.sum(), plain(hidden, head, targets, 50, 15.0, 0.0), rtol=1e-5)


def test_all_ignored_is_zero_with_zero_gradient():
    hidden = torch.randn(4, 8, requires_grad=True)
    found = loss.summed_cross_entropy(hidden, torch.randn(64, 8), torch.full((4,), -1), 50, 15.0)
    found.backward()
    assert found == 0 and hidden.grad.abs().max() == 0


def test_padded_rows_of_the_head_get_no_gradient():
    head = torch.randn(64, 8, requires_grad=True)
    loss.summed_cross_entropy(torch.randn(9, 8), head, torch.randint(0, 50, (9,)), 50, 15.0).backward()
    assert head.grad[50:].abs().max() == 0 and head.grad[:50].abs().max() > 0


def test_logits_of_a_micro_batch_are_never_in_memory_together():
    """The largest tensor that the loss allocates is far smaller than (tokens, vocabulary)."""
    tokens, vocab, width = 8192, 2048, 16
    hidden, head = torch.randn(tokens, width, requires_grad=True), torch.randn(vocab, width, requires_grad=True)
    targets = torch.randint(0, vocab, (tokens,))
    with torch.profiler.profile(profile_memory=True) as profile:
        loss.summed_cross_entropy(hidden, head, targets, vocab, 15.0).backward()
    largest = max(event.cpu_memory_usage for event in profile.events() if event.name == "aten::mm")
    assert 0 < largest < 4 * tokens * vocab / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [0.0, 15.0, 100.0])
def test_in_each_dtype_as_near_to_the_exact_gradients_as_the_plain_version(softcap, dtype):
    torch.manual_seed(2)
    hidden, head, targets = torch.randn(40, 16).to(dtype), 3 * torch.randn(640, 16), torch.randint(0, 611, (40,))
    targets[7] = -1

    def gradients(function, wide):
        inputs = hidden.to(wide).requires_grad_(), head.to(wide).requires_grad_()
        return torch.autograd.grad(function(*inputs), inputs)

    exact = gradients(lambda h, w: plain(h, w, targets, 611, softcap, 0.0), torch.float64)
    theirs = gradients(lambda h, w: plain(h.to(dtype), w.to(dtype), targets, 611, softcap, 0.0), dtype)
    mine = gradients(
        lambda h, w: loss.summed_cross_entropy(h.to(dtype), w.float(), targets, 611, softcap), torch.float32
    )
    for found, other, truth in zip(mine, theirs, exact, strict=True):
        off, allowed = ((each.double() - truth).square().mean().sqrt() for each in (found, other))
        assert off <= 1.1 * allowed + 3e-6


@pytest.mark.parametrize("softcap", [0.0, 15.0])
def test_what_is_not_a_number_is_not_hidden(softcap):
    hidden = torch.randn(9, 8)
    hidden[4, 2] = torch.nan
    found = loss.token_cross_entropy(hidden, torch.randn(64, 8), torch.arange(9), 50, softcap)
    assert found.isnan().tolist() == [token == 4 for token in range(9)]


def test_not_one_bit_depends_on_the_number_of_threads():
    torch.manual_seed(3)
    hidden, head, targets = torch.randn(40, 16), torch.randn(640, 16), torch.randint(0, 611, (40,))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(loss.token_cross_entropy(hidden, head, targets, 611, 15.0))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
