"""The model, top to bottom: token ids in, hidden states, logits or losses out. Two presets from one `GPTConfig`.

Modern (nanochat's recipe, July 2026): rotary positions, RMSNorm without weights, QK-norm, squared ReLU, no biases,
untied head with capped logits, sliding windows, and four small extras:

- value embeddings: on every other layer each token adds its own learned vector to the values, scaled for each head by
  a gate that reads the first channels of the layer's input (ResFormer, arXiv 2410.17897);
- residual and x0 scalars: before each layer the stream is scaled and the normalised embedding mixed in again;
- smear: each position adds a gated share of the previous token's embedding, bigrams at almost no cost;
- back-out: a share of the mid-layer stream is subtracted before the head.

Classic: GPT-2 (LayerNorm, learned positions, GELU, biases, tied head).

Weights are fp32 (or what the checkpoint holds); matrix products run in `compute_dtype`, to which weights are cast
where they are used. Shapes: B rows, T positions, C = n_embd, H heads, D = head_dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from vnc.attention import attention
from vnc.config import SMEAR_CHANNELS, VALUE_GATE_CHANNELS, GPTConfig
from vnc.cuda.fp8 import fp8_linear
from vnc.cuda.squared_relu import squared_relu_mlp, takes_squared_relu
from vnc.elementwise import Rotary, rms_norm, split_heads, squared_relu
from vnc.loss import cap_logits, summed_cross_entropy, token_cross_entropy


class CacheOfLayer(Protocol):
    """What one layer knows of earlier positions."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """What the queries find, among these keys and those from before; all (B, H, positions, D)."""
        ...


class Cache(Protocol):
    """What `GPT.forward` asks of what stands for earlier positions: vnc/cache.py's for generation, and those of
    vnc/decoding/one_token_each.py and vnc/evals/tree_attention.py."""

    length: int
    """Positions of each row that it has room for."""

    @property
    def layers(self) -> Sequence[CacheOfLayer]: ...

    def positions(self, T: int) -> torch.Tensor:
        """Begins a pass of T tokens for each row: where they stand, (B, T) int64."""
        ...

    def previous_embedding(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, T, C): the embedding of the token before each, zeros before the first."""
        ...

    def advance(self, T: int) -> None:
        """Ends the pass."""
        ...


Values = tuple[torch.Tensor, torch.Tensor]  # a table of value embeddings (rows, C), and the token ids (B, T)
Mix = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # the embedding (B, T, C), and the scales of stream and embedding


class Linear(nn.Linear):
    """A linear layer whose weights follow the dtype of its input."""

    fp8 = False
    """Whether training multiplies in 8 bits (vnc/cuda/fp8.py)."""

    def reset_parameters(self) -> None:
        """Nothing: `GPT.init_weights` or a checkpoint fills it. On the meta device torch's own imports the compiler."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias, self.fp8)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, fp8: bool) -> torch.Tensor:
    """x W^T + bias in the dtype of x. fp8: in training the product runs in 8 bits, and there is no bias."""
    if fp8 and torch.is_grad_enabled():
        return fp8_linear(x, weight)
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class _Lookup(torch.autograd.Function):
    """table[ids], with the gradient of the table summed in fp32 even where the table is bf16."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = table.size(0)
        return F.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (ids,) = ctx.saved_tensors
        return torch.ops.aten.embedding_dense_backward(gradients[0].float(), ids, ctx.rows, -1, False), None


class Embedding(nn.Embedding):
    """Rows of a table by token id."""

    def reset_parameters(self) -> None:
        """Nothing, as in `Linear`."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return lookup(self.weight, ids)


def lookup(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """table[ids]: (..., C) in the dtype of the table (rows, C)."""
    found: torch.Tensor = _Lookup.apply(table, ids)  # type: ignore[no-untyped-call]
    return found


class Norm(nn.Module):
    """RMSNorm without weights, or LayerNorm with weight and bias; statistics in fp32 (torch's kernels see to it)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.width = config.n_embd
        self.weight = nn.Parameter(torch.ones(self.width)) if config.norm == "layer" else None
        self.bias = nn.Parameter(torch.zeros(self.width)) if config.norm == "layer" and config.bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is None:
            return rms_norm(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, (self.width,), self.weight.to(x.dtype), bias)


class _Scale(torch.autograd.Function):
    """scale * x for a scale of one number. Its gradient is a sum over all of x, taken position by position in fp32:
    autograd's own would round in the compute dtype, in an order that depends on the number of threads."""

    @staticmethod
    def forward(ctx: Any, scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(scale, x)
        return scale.view(()) * x

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (gradient,), (scale, x) = gradients, ctx.saved_tensors
        of_scale = (gradient * x).sum(-1, dtype=torch.float32).sum().view(scale.shape)
        return of_scale, scale.view(()) * gradient


def scaled(scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """scale * x in the dtype of x; scale: one number, fp32."""
    product: torch.Tensor = _Scale.apply(scale, x)  # type: ignore[no-untyped-call]
    return product


class Attention(nn.Module):
    fp8 = False
    """As in `Linear`, for the product of queries, keys and values."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.config, self.window = config, config.windows[layer]
        width = config.n_embd
        # One parameter for the three matrices: one product in the forward, three matrices for Muon.
        self.qkv = nn.Parameter(torch.empty(3, width, width))
        self.qkv_bias = nn.Parameter(torch.zeros(3 * width)) if config.bias else None
        self.proj = Linear(width, width, bias=config.bias)
        self.value_gate = (
            Linear(VALUE_GATE_CHANNELS, config.n_head, bias=False) if config.has_value_embedding(layer) else None
        )
        # QK-norm makes queries and keys unit RMS; its factor on both is folded into the softmax scale.
        self.scale = (config.qk_scale**2 or 1.0) * config.head_dim**-0.5

    def forward(
        self,
        x: torch.Tensor,
        values: Values | None,
        rotary: Rotary | None,
        cache: CacheOfLayer | None = None,
        first: int = 0,
    ) -> torch.Tensor:
        B, T, C = x.shape
        H, D = self.config.n_head, self.config.head_dim
        qkv = linear(x, self.qkv.flatten(0, 1), self.qkv_bias, self.fp8).view(B, T, 3, H, D)
        q, k, v = split_heads(qkv, rotary, normalize=bool(self.config.qk_scale))
        if self.value_gate is not None and values is not None:
            value_embedding = lookup(*values).to(x.dtype)
            gate = 3 * torch.sigmoid(self.value_gate(x[..., :VALUE_GATE_CHANNELS]))  # (B, T, H), in (0, 3)
            v = v + gate[..., None] * value_embedding.view(B, T, H, D)
        v = v.transpose(1, 2)  # (B, H, T, D), as q and k are
        if cache is None:
            y = attention(q, k, v, self.window, self.scale)
        else:
            y = cache.attend(q[:, :, first:], k, v, self.scale)
        return self.proj(y.transpose(1, 2).reshape(B, T - first, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.fc = Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.proj = Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.squared_relu = config.activation == "relu_squared"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = self.squared_relu and self.fc.bias is None and not self.fc.fp8
        if plain and takes_squared_relu(x, self.fc.weight):
            return squared_relu_mlp(x, self.fc.weight, self.proj.weight)
        x = self.fc(x)
        x = squared_relu(x) if self.squared_relu else F.gelu(x, approximate="tanh")
        return self.proj(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer: attention and MLP, each on the normalised stream and added to it. Before them the stream is mixed with
    the embedding, where the model does that."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm, self.attn = Norm(config), Attention(config, layer)
        self.mlp_norm, self.mlp = Norm(config), MLP(config)

    def forward(
        self,
        x: torch.Tensor,
        mix: Mix | None,
        values: Values | None,
        rotary: Rotary | None,
        cache: CacheOfLayer | None = None,
        first: int = 0,
    ) -> torch.Tensor:
        if mix is not None:
            x0, residual_scale, x0_scale = mix
            x = scaled(residual_scale, x) + scaled(x0_scale, x0)
        x = x[:, first:] + self.attn(self.attn_norm(x), values, rotary, cache, first)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class GPT(nn.Module):
    def __init__(self, config: GPTConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        """Allocates; `init_weights` or a checkpoint fills. Build under `torch.device("meta")` to allocate nothing."""
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        rows, width, layers = config.padded_vocab_size, config.n_embd, config.n_layer
        self.wte = Embedding(rows, width)
        self.wpe = Embedding(config.sequence_len, width) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(layers))
        self.value_embeds = nn.ModuleDict(
            {str(layer): Embedding(rows, width) for layer in range(layers) if config.has_value_embedding(layer)}
        )
        self.final_norm = Norm(config)
        self.lm_head = None if config.tied_head else Linear(width, rows, bias=False)
        if config.extras:
            self.residual_scale = nn.Parameter(torch.empty(layers))
            self.x0_scale = nn.Parameter(torch.empty(layers))
            self.smear_gate = Linear(SMEAR_CHANNELS, 1, bias=False)
            self.smear_scale = nn.Parameter(torch.empty(1))
            self.backout_scale = nn.Parameter(torch.empty(1))
        self._rotary: Rotary | None = None

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter: the recipe's distributions (DESIGN, "Facts"); GPT-2's for the classic preset."""
        config, width = self.config, self.config.n_embd
        if not config.extras:
            for name, parameter in self.named_parameters():
                if parameter.dim() < 2:
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
                else:
                    std = 0.02 / (2 * config.n_layer) ** 0.5 if name.endswith("proj.weight") else 0.02
                    parameter.normal_(0, std, generator=generator)
            return
        bound = (3 / width) ** 0.5  # uniform with the standard deviation 1 / sqrt(width)
        self.wte.weight.normal_(0, 0.8, generator=generator)
        self.head.normal_(0, 0.001, generator=generator)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn.qkv.uniform_(-bound, bound, generator=generator)
            block.attn.proj.weight.zero_()
            block.mlp.fc.weight.uniform_(-0.4 * bound, 0.4 * bound, generator=generator)
            block.mlp.proj.weight.zero_()
            if block.attn.value_gate is not None:
                block.attn.value_gate.weight.uniform_(0, 0.02, generator=generator)
        for embedding in self.value_embeds.values():
            assert isinstance(embedding, nn.Embedding)
            embedding.weight.uniform_(-bound, bound, generator=generator)
        depth = torch.linspace(0, 1, config.n_layer) if config.n_layer > 1 else torch.zeros(1)
        self.residual_scale.copy_(1.15 - 0.10 * depth)
        self.x0_scale.copy_(0.20 - 0.15 * depth)
        self.smear_gate.weight.uniform_(0, 0.02, generator=generator)
        self.smear_scale.zero_()
        self.backout_scale.fill_(0.2)

    @property
    def head(self) -> torch.Tensor:
        """(padded_vocab, C): the matrix from hidden states to logits."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def value_table(self, layer: int) -> torch.Tensor:
        """(rows, C): what each token adds to the values of this layer, which must have value embeddings."""
        embedding = self.value_embeds[str(layer)]
        assert isinstance(embedding, Embedding)
        return embedding.weight

    def rotary(self, length: int) -> Rotary:
        """cos and sin of the rotary angles, (length, D/2) each, in the compute dtype."""
        device = self.wte.weight.device
        cached = self._rotary
        if cached is None or cached[0].size(0) < length or cached[0].device != device:
            D = self.config.head_dim
            size = max(length, self.config.sequence_len)
            with torch.inference_mode(False):  # a table first made while sampling must serve training too
                frequency = self.config.rope_base ** -(torch.arange(0, D, 2, dtype=torch.float64) / D)
                angle = torch.outer(torch.arange(size, dtype=torch.float64), frequency)
                cached = (angle.cos().to(device, self.compute_dtype), angle.sin().to(device, self.compute_dtype))
            self._rotary = cached
        return cached[0][:length], cached[1][:length]

    def forward(self, inputs: torch.Tensor, cache: Cache | None = None, first: int = 0) -> torch.Tensor:
        """(B, T) token ids -> (B, T - first, C) normalised hidden states, in the compute dtype.

        With a cache, `inputs` continue what the cache holds, row by row, and each row may stand at another position.
        `first`: positions before it are not wanted, and the last layer leaves them out (evals/tree_attention.py).
        """
        config, T = self.config, inputs.size(1)
        positions = None if cache is None else cache.positions(T)  # (B, T), or None for 0 .. T-1
        rotary = None
        if self.wpe is None and positions is None:
            cos, sin = self.rotary(T)
            rotary = cos[:T, None, None], sin[:T, None, None]  # broadcast over q/k and heads
        elif self.wpe is None:
            cos, sin = self.rotary(cache.length)  # type: ignore[union-attr]
            rotary = cos[positions][:, :, None, None], sin[positions][:, :, None, None]
        x = x0 = middle = self.embed(inputs, positions, cache)
        for layer, block in enumerate(self.blocks):
            mix = values = None
            if config.extras:
                mix = x0, self.residual_scale[layer], self.x0_scale[layer]
                if str(layer) in self.value_embeds:
                    values = self.value_table(layer), inputs
            skipped = first if layer == config.n_layer - 1 else 0
            x = block(x, mix, values, rotary, None if cache is None else cache.layers[layer], skipped)
            if layer == config.n_layer // 2:
                middle = x
        if cache is not None:
            cache.advance(T)
        return self.back_out(x, middle)

    def embed(self, inputs: torch.Tensor, positions: torch.Tensor | None, cache: Cache | None) -> torch.Tensor:
        """The stream before the first layer, (B, T, C) in the compute dtype, of (B, T) token ids. positions: where the
        tokens stand, (B, T); None is 0 .. T-1."""
        x = lookup(self.wte.weight, inputs).to(self.compute_dtype)
        if self.wpe is not None:
            learned = self.wpe.weight[: inputs.size(1)] if positions is None else self.wpe(positions)
            x = x + learned.to(x.dtype)
        return self.smear(x, cache) if self.config.extras else x

    def smear(self, x: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """For normalised x: x[t] + scale * sigmoid(gate(x[t])) * x[t - 1]; nothing is added at the first position of a
        row."""
        x = rms_norm(x)
        if cache is None:
            previous = F.pad(x[:, :-1], (0, 0, 1, 0))
        else:
            previous = cache.previous_embedding(x)
        gate = self.smear_scale.to(x.dtype) * torch.sigmoid(self.smear_gate(x[..., :SMEAR_CHANNELS]))
        return x + gate * previous

    def back_out(self, x: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        """The last layer's stream (B, T, C), less a share of that of the middle layer (B, T or more, C), normalised."""
        if self.config.extras:
            x = x - scaled(self.backout_scale, middle[:, -x.size(1) :])
        return self.final_norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., C) hidden states -> (..., V) capped logits, fp32."""
        weight = self.head[: self.config.vocab_size].to(hidden.dtype)
        return cap_logits((hidden @ weight.mT).float(), self.config.logit_softcap)

    def summed_loss(self, inputs: torch.Tensor, targets: torch.Tensor, z_loss: float = 0.0) -> torch.Tensor:
        """Sum of the cross-entropies (nats) of all targets that are not -1: fp32 scalar."""
        hidden = self(inputs).flatten(0, 1)
        config = self.config
        return summed_cross_entropy(
            hidden, self.head, targets.flatten(), config.vocab_size, config.logit_softcap, z_loss
        )

    @torch.no_grad()
    def token_losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each target in nats, shaped like `targets`, fp32, 0 where it is -1."""
        hidden = self(inputs).flatten(0, 1)
        config = self.config
        losses = token_cross_entropy(hidden, self.head, targets.flatten(), config.vocab_size, config.logit_softcap)
        return losses.view(targets.shape)
