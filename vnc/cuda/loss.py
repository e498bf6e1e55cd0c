"""The loss of each token and its gradient from logits, on a GPU: one kernel that reads the logits twice, the second
time mostly from a cache, and writes the gradient over them. In plain words it is a dozen kernels, each of which reads
and writes them all in fp32; compiled from those, one that takes twice as long (docs/LOG.md)."""

from __future__ import annotations

import torch

from vnc.rows import IGNORED

BLOCK = 4096  # logits at a time
WARPS = 16  # of a token. With fewer, so many tokens are worked on at once that their logits fall out of the cache


def cross_entropy_(
    logits: torch.Tensor, targets: torch.Tensor, vocab_size: int, softcap: float, z_loss: float, shifted: bool,
    want_gradient: bool = True,
) -> torch.Tensor:  # fmt: skip
    """The loss of each token, (tokens,) fp32, as vnc/loss.py defines it. logits: (tokens, columns) of any float dtype,
    contiguous, overwritten with the gradient of the losses' sum if that is wanted; columns from `vocab_size` on count
    nothing, and their gradient is 0. targets: (tokens,) int64. shifted: take the largest logit off before exponentials.

    In training the soft cap of 16-bit logits, whose own rounding is coarser, is NVIDIA's approximate tanh.
    """
    from vnc.cuda.triton_kernels import cross_entropy

    tokens, columns = logits.shape
    coarse = want_gradient and logits.dtype != torch.float32 and torch.version.cuda is not None
    losses = torch.empty(tokens, dtype=torch.float32, device=logits.device)
    with torch.cuda.device(logits.device):
        cross_entropy[(tokens,)](
            logits, targets, losses, softcap, z_loss, vocab_size, columns, IGNORED, bool(softcap), coarse, shifted,
            want_gradient, BLOCK, num_warps=WARPS,
        )  # fmt: skip
    return losses
