"""Cross-entropy from hidden states to a number, in chunks of tokens: the logits of a whole micro-batch are never in
memory together. With vocabularies of tens of thousands they would be the largest tensor of all.

For a token with logits x, capped z = cap * tanh(x / cap) and target t, the loss is logsumexp(z) - z[t], plus
z_loss * logsumexp(z)^2 where asked for (PaLM, arXiv 2204.02311, section 5). Everything after the matrix product is in
fp32, on a GPU by one kernel (vnc/cuda/loss.py). Targets of -1 count nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vnc.c import training as c_training
from vnc.c.training import runs_in_c
from vnc.cuda.loss import cross_entropy_
from vnc.cuda.triton_support import runs_triton
from vnc.flops import LOSS_CHUNK_TOKENS
from vnc.rows import IGNORED

SAFE_EXPONENT = 60.0  # e^60 times any vocabulary is far inside fp32: logits capped there need no shift
CPU_CHUNK_BYTES = 2 * 2**20  # a chunk of fp32 logits that stays in a CPU's caches
# Logits of one product, in bf16: for each of them the head's gradient is read and written.
CPU_PRODUCT_BYTES = 128 * 2**20
GPU_PRODUCT_BYTES = 512 * 2**20


def chunk_tokens(vocab_size: int, device: torch.device) -> int:
    """Tokens whose fp32 logits are worked on together."""
    if device.type != "cpu":
        return LOSS_CHUNK_TOKENS
    return max(16, min(LOSS_CHUNK_TOKENS, CPU_CHUNK_BYTES // (4 * vocab_size)))


def product_tokens(vocab_size: int, device: torch.device) -> int:
    """Tokens whose logits, in the compute dtype, come from one matrix product."""
    if device.type != "cpu":
        return max(LOSS_CHUNK_TOKENS, GPU_PRODUCT_BYTES // (2 * vocab_size))
    return max(64, min(LOSS_CHUNK_TOKENS, CPU_PRODUCT_BYTES // (2 * vocab_size)))


def needs_shift(softcap: float) -> bool:
    """Whether the largest logit must come off before exponentials."""
    return not 0 < softcap <= SAFE_EXPONENT


def cap_logits(logits: torch.Tensor, softcap: float) -> torch.Tensor:
    """softcap * tanh(logits / softcap), or the logits themselves when softcap is 0."""
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def summed_cross_entropy(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    vocab_size: int,
    softcap: float = 0.0,
    z_loss: float = 0.0,
) -> torch.Tensor:
    """Sum of the losses of all tokens, fp32 scalar, differentiable in `hidden` and `head`.

    hidden: (tokens, width) in the compute dtype. head: (padded_vocab, width) fp32. targets: (tokens,) int64.
    """
    return _SummedCrossEntropy.apply(hidden, head, targets, vocab_size, softcap, z_loss)  # type: ignore[no-untyped-call,no-any-return]


@torch.no_grad()
def token_cross_entropy(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, vocab_size: int, softcap: float = 0.0
) -> torch.Tensor:
    """The loss of each token in nats, (tokens,) fp32, 0 where the target is -1; shapes as in `summed_cross_entropy`."""
    weight = _used_rows(head, vocab_size).to(hidden.dtype)
    losses: list[torch.Tensor] = []
    size = product_tokens(vocab_size, hidden.device)
    for start in range(0, hidden.size(0), size):
        logits = hidden[start : start + size] @ weight.mT
        losses += _losses_(logits, targets[start : start + size], vocab_size, softcap, 0.0, want_gradient=False)
    return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradients of each chunk while its logits are at hand; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        vocab_size: int,
        softcap: float,
        z_loss: float,
    ) -> torch.Tensor:
        weight = _used_rows(head, vocab_size).to(hidden.dtype)
        want_gradient = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if want_gradient else None
        grad_head = torch.zeros_like(head, dtype=torch.float32) if want_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = product_tokens(vocab_size, hidden.device)
        for start in range(0, hidden.size(0), size):
            piece, target = hidden[start : start + size], targets[start : start + size]
            logits = piece @ weight.mT
            for losses in _losses_(logits, target, vocab_size, softcap, z_loss, want_gradient):
                total += losses.sum()
            if grad_hidden is not None and grad_head is not None:
                torch.mm(logits, weight, out=grad_hidden[start : start + size])
                _add_product_(grad_head[: len(weight)], logits.mT, piece)
        if want_gradient:
            ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        grad_hidden, grad_head = ctx.saved_tensors
        scale = gradients[0]
        return grad_hidden * scale.to(grad_hidden.dtype), grad_head * scale, None, None, None, None


def _add_product_(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """total += a @ b, for fp32 total; on NVIDIA's GPUs in the product itself, unrounded."""
    if a.device.type == "cuda" and torch.version.cuda is not None and a.dtype != total.dtype:
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total += a @ b


def _used_rows(head: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """The rows of the head to multiply with: on a GPU those that pad it too, for products are fast with whole tiles."""
    return head if runs_triton(head.device) else head[:vocab_size]


def _losses_(
    logits: torch.Tensor, targets: torch.Tensor, vocab_size: int, softcap: float, z_loss: float, want_gradient: bool
) -> Iterator[torch.Tensor]:
    """The losses of (tokens, columns) logits, some tokens at a time; overwrites the logits with the gradient of their
    sum if that is wanted."""
    if runs_triton(logits.device):
        yield cross_entropy_(logits, targets, vocab_size, softcap, z_loss, needs_shift(softcap), want_gradient)
        return
    if runs_in_c(logits):
        yield c_training.cross_entropy_(logits, targets, softcap, z_loss, want_gradient)
        return
    size = chunk_tokens(vocab_size, logits.device)
    for start in range(0, logits.size(0), size):
        rows = logits[start : start + size]
        losses, gradient = _chunk(rows.float(), targets[start : start + size], softcap, z_loss, want_gradient)
        if want_gradient:
            rows.copy_(gradient)
        yield losses


def _chunk(
    logits: torch.Tensor, targets: torch.Tensor, softcap: float, z_loss: float, want_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of each token, gradient of their sum by the uncapped logits) of one chunk; overwrites `logits` (tokens,
    vocab) fp32. Passes over the chunk are what it costs, so there are as few as can be."""
    index, valid = targets.clamp(min=0)[:, None], (targets != IGNORED)[:, None]
    shift: torch.Tensor | float = 0.0
    if softcap:
        tanh = _tanh_(logits.div_(softcap))  # needed again for the gradient
        z = tanh * softcap
    else:
        z = logits
    if needs_shift(softcap):
        shift = z.amax(dim=-1, keepdim=True)
        z = z.sub_(shift)
    at_target = z.gather(1, index)
    exponentials = z.exp_()
    total = exponentials.sum(dim=-1, keepdim=True)
    log_sum = total.log() + shift
    losses = (total.log() - at_target + z_loss * log_sum.square()).masked_fill_(~valid, 0.0)[:, 0]
    if not want_gradient:
        return losses, exponentials
    gradient = exponentials.mul_(valid * (1 + 2 * z_loss * log_sum) / total)  # probabilities, if there is no z-loss
    gradient.scatter_add_(1, index, -valid.to(gradient.dtype))
    if softcap:
        gradient = torch.ops.aten.tanh_backward(gradient, tanh)  # gradient * (1 - tanh^2)
    return losses, gradient


def _tanh_(x: torch.Tensor) -> torch.Tensor:
    """tanh in place, as 2 sigmoid(2 x) - 1: torch's own takes three times as long on a CPU. Off by at most 2e-7."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)
