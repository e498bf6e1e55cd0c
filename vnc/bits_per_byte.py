"""Bits per byte: how many bits the model spends on each byte of text. Unlike the loss it does not depend on the
vocabulary, so models with different tokenizers compare."""

from __future__ import annotations

import math
from typing import Any

import torch
from torchmetrics import Metric

from vnc.rows import IGNORED


class BitsPerByte(Metric):
    """Sum of losses in bits over sum of bytes. Ignored targets and special tokens (0 bytes) count in neither sum."""

    full_state_update = False
    nats: torch.Tensor
    bytes: torch.Tensor

    def __init__(self, token_bytes: torch.Tensor, **kwargs: Any) -> None:
        """token_bytes: (vocab_size,) integers, the UTF-8 length of each token, 0 for specials."""
        super().__init__(**kwargs)
        self.register_buffer("token_bytes", token_bytes.long(), persistent=False)
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: torch.Tensor, targets: torch.Tensor) -> None:
        """losses: nats, fp32; targets: int64 ids, -1 ignored; same shape."""
        sizes: torch.Tensor = self.token_bytes[targets.clamp(min=0)]  # type: ignore[index]
        sizes = torch.where(targets == IGNORED, 0, sizes)
        self.nats += torch.where(sizes > 0, losses, 0.0).sum(dtype=torch.float64)
        self.bytes += sizes.sum()

    def compute(self) -> torch.Tensor:
        """Bits per byte; NaN when no byte was seen."""
        return self.nats / (math.log(2) * self.bytes)
