"""What a configuration costs, by arithmetic alone: parameters by group, FLOPs per token, bytes on each device.

The formulas are checked in the tests against the real model (parameter counts) and against a published table.
"""

from __future__ import annotations

from dataclasses import dataclass

from vnc.config import SMEAR_CHANNELS, VALUE_GATE_CHANNELS, GPTConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by group. The names are those of the scaling-law literature's tables (see docs)."""

    wte: int
    """Token embedding, padded rows included."""
    wpe: int
    """Learned positions (GPT-2 only)."""
    value_embeds: int
    lm_head: int
    """0 when the head is tied to the embedding."""
    transformer_matrices: int
    """Attention and MLP matrices of all layers, value gates included."""
    scalars: int
    """Everything small: residual and x0 scalars, smear, back-out; biases and norms of GPT-2."""

    @property
    def total(self) -> int:
        return self.wte + self.wpe + self.value_embeds + self.lm_head + self.transformer_matrices + self.scalars

    def scaling(self, config: GPTConfig) -> int:
        """The count that token horizons are a multiple of: matrices + head (the tied table counts as the head)."""
        return self.transformer_matrices + (self.wte if config.tied_head else self.lm_head)


def count_parameters(config: GPTConfig) -> ParameterCounts:
    """Parameters of `config` by group, as the model in vnc/gpt.py allocates them."""
    width, layers, rows = config.n_embd, config.n_layer, config.padded_vocab_size
    value_layers = sum(config.has_value_embedding(layer) for layer in range(layers))
    matrices = layers * 12 * width * width + value_layers * VALUE_GATE_CHANNELS * config.n_head
    scalars = 0
    if config.extras:
        scalars += 2 * layers + SMEAR_CHANNELS + 2  # residual and x0 scalars, smear gate and scale, back-out
    if config.bias:
        scalars += layers * 9 * width  # q, k, v, projection: 4 widths; MLP: 4 + 1
    if config.norm == "layer":
        scalars += (2 * layers + 1) * (2 if config.bias else 1) * width
    return ParameterCounts(
        wte=rows * width,
        wpe=config.sequence_len * width if config.positions == "learned" else 0,
        value_embeds=value_layers * rows * width,
        lm_head=0 if config.tied_head else rows * width,
        transformer_matrices=matrices,
        scalars=scalars,
    )


def flops_per_token(config: GPTConfig) -> int:
    """FLOPs of forward + backward for one token: 6 for each parameter that a matrix product uses, and
    12 x heads x head_dim x keys for attention in each layer (PaLM, arXiv 2204.02311, appendix B; keys = the layer's
    window, which counts a causal triangle as a full square, as is the custom)."""
    counts = count_parameters(config)
    matmul = counts.scaling(config) + (SMEAR_CHANNELS if config.extras else 0)
    attention = sum(12 * config.n_embd * min(window, config.sequence_len) for window in config.windows)
    return 6 * matmul + attention


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device while training."""

    weights: int
    gradients: int
    optimizer_state: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer_state + self.activations


LOSS_CHUNK_TOKENS = 2_048
"""Tokens whose logits are in memory at once (vnc/loss.py)."""


TRAVELLING_BUCKETS = 8
"""Three buckets of gradients on their way, each sent and received, and two that backward is filling."""


def estimate_memory(
    config: GPTConfig, device_batch_size: int, world_size: int, activation_bytes: int = 2
) -> MemoryEstimate:
    """Bytes on each device: fp32 weights in full, gradients and optimizer state divided by `world_size` (with buckets
    of gradients on their way, docs/dist_muon.md), activations of one micro-batch of `device_batch_size` rows kept for
    backward in numbers of `activation_bytes` bytes.

    A layer keeps about 20 widths for each token (modern preset, compiled for a GPU: the most that an H200 held in
    training, tests/vnc/test_depth.py, before Hopper had its activation in the product; there it is 15 now) or 23
    (classic, measured as the storages that compiled blocks save for backward on a CPU); eager modern blocks on a CPU
    keep 31. The loss keeps the logits of one chunk in fp32, twice. An estimate: fragmentation and the framework come on
    top.
    """
    counts = count_parameters(config)
    matrices = counts.transformer_matrices
    others = counts.total - matrices
    tokens = device_batch_size * config.sequence_len
    kept = config.n_layer * (20 if config.extras else 23) * config.n_embd * activation_bytes * tokens
    logits = 2 * 4 * min(tokens, LOSS_CHUNK_TOKENS) * config.padded_vocab_size
    travelling = 0
    if world_size > 1:
        bucket = max(config.padded_vocab_size * config.n_embd, max(1, world_size // 2) * 8 * config.n_embd**2)
        travelling = min(counts.total, TRAVELLING_BUCKETS * bucket)
    return MemoryEstimate(
        weights=4 * counts.total,
        gradients=4 * (counts.total // world_size + travelling),
        optimizer_state=(4 * matrices + 8 * others) // world_size,
        activations=kept + logits,
    )
