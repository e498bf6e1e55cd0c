"""Sizes and switches of one GPT. A frozen dataclass and integer arithmetic, no torch: `vnc plan` and readers of
checkpoints use it without paying for torch's import."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from vnc.errors import UserError

VOCAB_ALIGNMENT = 64  # rows of embedding and head are padded to this multiple, so that they shard and tile evenly
VALUE_GATE_CHANNELS = 12  # the value-embedding gate reads this many channels of the block's input
SMEAR_CHANNELS = 24  # the smear gate reads this many channels of the embedding
WINDOW_TILE = 128  # short windows are rounded up to whole attention tiles


@dataclass(frozen=True)
class GPTConfig:
    """Everything that fixes the shapes and the forward pass of a GPT.

    The defaults are the modern preset; `GPTConfig.gpt2()` turns the switches to GPT-2 (Radford et al. 2019).
    """

    vocab_size: int = 32_768
    """Number of token ids; embedding and head hold `padded_vocab_size` rows."""
    sequence_len: int = 2_048
    """Context length in tokens."""
    n_layer: int = 12
    n_head: int = 6
    n_embd: int = 768
    """Width of the residual stream; a multiple of n_head."""
    window_pattern: str = "SSSL"
    """Attention span by layer, tiled: S = a quarter of the context, L = all of it. The last layer is always L."""
    positions: Literal["rope", "learned"] = "rope"
    rope_base: float = 100_000.0
    norm: Literal["rms", "layer"] = "rms"
    """rms: RMSNorm without weights, also after the embedding. layer: LayerNorm with weight and bias."""
    activation: Literal["relu_squared", "gelu"] = "relu_squared"
    bias: bool = False
    """Biases in the linear layers."""
    tied_head: bool = False
    """The head shares the embedding's weights."""
    logit_softcap: float = 15.0
    """logits = cap * tanh(logits / cap); 0 switches it off."""
    qk_scale: float = 1.2
    """With QK-norm, both queries and keys are normalised and multiplied by this; 0 switches QK-norm off."""
    extras: bool = True
    """Value embeddings, residual and x0 scalars, smear and back-out (see vnc/gpt.py)."""

    def __post_init__(self) -> None:
        for key in ("vocab_size", "sequence_len", "n_layer", "n_head", "n_embd"):
            if getattr(self, key) < 1:
                raise UserError(f"{key}={getattr(self, key)}: must be at least 1")
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; change one of them")
        if self.positions == "rope" and self.head_dim % 2:
            raise UserError(f"head_dim={self.head_dim}: rotary embeddings need an even head_dim")
        if not self.window_pattern or set(self.window_pattern) - set("SL"):
            raise UserError(
                f"window_pattern={self.window_pattern!r}: use only S (short) and L (long), such as SSSL or L"
            )
        if self.extras and self.n_embd < SMEAR_CHANNELS:
            raise UserError(f"n_embd={self.n_embd}: the modern preset needs at least {SMEAR_CHANNELS} channels")

    @classmethod
    def gpt2(cls, **overrides: Any) -> GPTConfig:
        """The classic preset: GPT-2 124M unless `overrides` change its sizes."""
        classic: dict[str, Any] = dict(
            vocab_size=50_257,
            sequence_len=1_024,
            n_layer=12,
            n_head=12,
            n_embd=768,
            window_pattern="L",
            positions="learned",
            norm="layer",
            activation="gelu",
            bias=True,
            tied_head=True,
            logit_softcap=0.0,
            qk_scale=0.0,
            extras=False,
        )
        return cls(**(classic | overrides))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> GPTConfig:
        """The inverse of `dataclasses.asdict`. `source` names the file for the error message."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted(known - set(values))
        if unknown or missing:
            raise UserError(
                f"{source}: not a model configuration of this version of vnc "
                f"(unknown keys {unknown}, missing keys {missing})"
            )
        return cls(**values)

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @property
    def padded_vocab_size(self) -> int:
        return -(-self.vocab_size // VOCAB_ALIGNMENT) * VOCAB_ALIGNMENT

    @property
    def windows(self) -> tuple[int, ...]:
        """Keys each query of a layer sees, its own included: key j for query i when 0 <= i - j < window."""
        short = min(self.sequence_len, -(-self.sequence_len // 4 // WINDOW_TILE) * WINDOW_TILE)
        spans = [
            short if self.window_pattern[layer % len(self.window_pattern)] == "S" else self.sequence_len
            for layer in range(self.n_layer)
        ]
        spans[-1] = self.sequence_len
        return tuple(spans)

    def has_value_embedding(self, layer: int) -> bool:
        """Every other layer, counted so that the last one is included."""
        return self.extras and layer % 2 == (self.n_layer - 1) % 2
