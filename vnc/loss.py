"""Cross-entropy from hidden states to a number, in chunks of tokens: the logits of a whole micro-batch are never in
memory together. With vocabularies of tens of thousands they would be the largest tensor of all.

For a token with logits x, capped z = cap * tanh(x / cap) and target t, the loss is logsumexp(z) - z[t], plus
z_loss * logsumexp(z)^2 where asked for (PaLM, arXiv 2204.02311, section 5). Everything after the matrix product is in
fp32. Targets of -1 count nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from vnc.flops import LOSS_CHUNK_TOKENS
from vnc.rows import IGNORED

CPU_CHUNK_BYTES = 4 * 2**20  # a chunk of fp32 logits that stays in a CPU's caches


def chunk_tokens(vocab_size: int, device: torch.device) -> int:
    """Tokens whose logits are computed together."""
    if device.type != "cpu":
        return LOSS_CHUNK_TOKENS
    return max(64, min(LOSS_CHUNK_TOKENS, CPU_CHUNK_BYTES // (4 * vocab_size)))


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
    weight = head[:vocab_size].to(hidden.dtype)
    losses = []
    size = chunk_tokens(vocab_size, hidden.device)
    for start in range(0, hidden.size(0), size):
        piece, target = hidden[start : start + size], targets[start : start + size]
        logits = cap_logits((piece @ weight.mT).float(), softcap)
        losses.append(torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none"))
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
        weight = head[:vocab_size].to(hidden.dtype)
        want_gradient = any(ctx.needs_input_grad[:2])
        grad_hidden = torch.empty_like(hidden) if want_gradient else None
        grad_head = torch.zeros_like(head, dtype=torch.float32) if want_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = chunk_tokens(vocab_size, hidden.device)
        for start in range(0, hidden.size(0), size):
            piece, target = hidden[start : start + size], targets[start : start + size]
            loss, grad_logits = _chunk((piece @ weight.mT).float(), target, softcap, z_loss, want_gradient)
            total += loss
            if grad_hidden is not None and grad_head is not None:
                grad_logits = grad_logits.to(hidden.dtype)
                torch.mm(grad_logits, weight, out=grad_hidden[start : start + size])
                grad_head[:vocab_size] += grad_logits.mT @ piece
        if want_gradient:
            ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        grad_hidden, grad_head = ctx.saved_tensors
        scale = gradients[0]
        return grad_hidden * scale.to(grad_hidden.dtype), grad_head * scale, None, None, None, None


def _chunk(
    logits: torch.Tensor, targets: torch.Tensor, softcap: float, z_loss: float, want_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(summed loss, gradient of it by the uncapped logits) of one chunk; overwrites `logits` (tokens, vocab) fp32."""
    if softcap:
        logits.div_(softcap).tanh_()  # the tanh is needed again for the gradient
        capped = logits * softcap
    else:
        capped = logits
    valid = targets != IGNORED
    index = targets.clamp(min=0)[:, None]
    log_sum = torch.logsumexp(capped, dim=-1, keepdim=True)
    losses = log_sum - capped.gather(1, index) + z_loss * log_sum.square()
    loss = torch.where(valid[:, None], losses, 0.0).sum()
    if not want_gradient:
        return loss, logits
    gradient = (capped - log_sum).exp_()  # probabilities
    if z_loss:
        gradient *= 1 + 2 * z_loss * log_sum
    gradient.scatter_add_(1, index, -torch.ones_like(log_sum))
    if softcap:
        gradient *= logits.square_().neg_().add_(1)
    gradient *= valid[:, None]
    return loss, gradient
