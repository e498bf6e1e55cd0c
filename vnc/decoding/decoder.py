"""The forward pass of a frozen model on the CPU, laid out for generation: what `GPT.forward` computes with a cache.
It serves where c_decoder.py cannot: on other processors than x86, and where there is no C compiler.

One token for one row is a pass through all the matrices for next to no arithmetic. It takes as long as memory takes to
yield the weights, plus one or two microseconds for each of the hundreds of calls of torch. So

- matrices are reordered once into the blocks in which oneDNN multiplies them: one core then reads bf16 weights at four
  fifths of its memory's speed, twice as fast as row by row, and the results are the same bits (docs/LOG.md);
- gates of value embeddings are further rows of the product for queries, keys and values; scales are plain numbers;
  nothing is kept for a backward pass;
- two numbers that a rotary angle turns lie beside each other, as one complex number, so that to turn is to multiply;
- the stream, and between the products of a few tokens everything, stays fp32: fewer conversions, and less rounding than
  in training;
- once the last layer has its keys and values, only the last token of each row goes on. A prompt's other positions skip
  the last layer's attention and MLP, and the head.

The reordered matrices are a second copy, so a model takes twice the memory of its matrices while an engine decodes
with it. A cache that a decoder has filled is for decoders alone: the channels of its keys lie in their order. Shapes: B
rows, T new positions, N = B T tokens, C = n_embd, H heads, D = head_dim.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F

from vnc.cache import FEW, KVCache, LayerCache
from vnc.config import SMEAR_CHANNELS, VALUE_GATE_CHANNELS
from vnc.decoding.thread_trials import ThreadTrials
from vnc.gpt import GPT, Block, Embedding, Norm
from vnc.loss import cap_logits

EPS = torch.tensor(torch.finfo(torch.float32).eps, device="cpu")

# In fp32 a pass takes one thread if its tokens times bytes of weights are fewer than this. There sums depend on the
# number of threads, so no clock may choose it, as one does for bf16 (vnc/decoding/thread_trials.py).
ONE_THREAD_BYTES = 200e6


def can_decode(gpt: GPT) -> bool:
    """Whether `Decoder` serves this model: on the CPU, and frozen in its compute dtype (`engine.freeze`), so that what
    is copied now stays true."""
    return all(
        parameter.device.type == "cpu"
        and not parameter.requires_grad
        and (parameter.dim() < 2 or parameter.dtype == gpt.compute_dtype)
        for parameter in gpt.parameters()
    )


class Product:
    """x -> x W^T + bias for a matrix (out, in) that stays as it is."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.bias = None if bias is None else bias.to(weight.dtype)
        # In fp32 oneDNN's order is no faster for one row, and its sums differ from those of the plain product.
        self.reordered = weight.dtype == torch.bfloat16 and has_bf16_products()
        self.weight, self.nbytes = weight, weight.nbytes
        if self.reordered:
            onednn = torch.ops.mkldnn
            self.weight = onednn._reorder_linear_weight(weight.contiguous(), 1)  # for 1 row; others get the same layout
            self._multiply = onednn._linear_pointwise.default

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.reordered:
            return self._multiply(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]
        return F.linear(x, self.weight, self.bias)


def has_bf16_products() -> bool:
    """Whether this build of torch and this CPU have oneDNN's."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Decoder:
    """What `gpt` computes, for one that `can_decode` accepts."""

    def __init__(self, gpt: GPT) -> None:
        config = self.config = gpt.config
        self.tokens, self.positions = gpt.wte.weight, None if gpt.wpe is None else gpt.wpe.weight
        self.layers = [Layer(gpt, layer) for layer in range(config.n_layer)]
        self.final_norm = norm_of(gpt.final_norm, gpt.compute_dtype)
        self.head = Product(gpt.head[: config.vocab_size])
        self.nbytes = sum(product.nbytes for product in (self.head, *(each for layer in self.layers for each in layer)))
        self._trials: defaultdict[int, ThreadTrials] = defaultdict(ThreadTrials)  # for tokens of so many binary digits
        self.rotary: torch.Tensor | None = None
        if config.positions == "rope":
            cos, sin = (table.float() for table in gpt.rotary(config.sequence_len))
            self.rotary = torch.complex(cos, sin)  # (positions, D/2)
        if config.extras:
            # Scales are taken as `GPT.forward` multiplies with them: rounded to the compute dtype.
            rounded = {name: value.to(gpt.compute_dtype) for name, value in gpt.named_parameters(recurse=False)}
            self.smear_gate, self.smear_scale = gpt.smear_gate.weight[0].float(), rounded["smear_scale"].item()
            self.residual_scales = rounded["residual_scale"].tolist()
            self.x0_scales = rounded["x0_scale"].float()[:, None, None]
            self.backout_scale = rounded["backout_scale"].item()

    def logits(
        self, ids: torch.Tensor, cache: KVCache, last: Sequence[int], due: Sequence[int], capped: bool = True
    ) -> torch.Tensor:
        """(B, T) token ids, which continue what the cache holds -> fp32 logits after some of them, (due, V).

        last: where the last token of each row stands among the T. due: the rows whose logits are wanted. capped: by the
        model's soft cap, which does not change their order and takes a twentieth of a small model's pass.
        """
        trials = self._trials[ids.numel().bit_length()] if self.head.reordered and torch.get_num_threads() > 1 else None
        alone = trials.alone if trials is not None else ids.numel() * self.nbytes < ONE_THREAD_BYTES
        start = time.perf_counter()
        with one_thread() if alone else contextlib.nullcontext():
            hidden = self.hidden(ids, cache, last)
            logits = self.head(hidden if len(due) == len(ids) else hidden[list(due)]).float()
            logits = cap_logits(logits, self.config.logit_softcap if capped else 0.0)
        if trials is not None:
            trials.took(alone, (time.perf_counter() - start) / ids.numel())
        return logits

    def hidden(self, ids: torch.Tensor, cache: KVCache, last: Sequence[int]) -> torch.Tensor:
        """(B, T) token ids -> (B, C) normalised hidden states, of the last token of each row."""
        config, (B, T) = self.config, ids.shape
        positions = cache.positions(T, "decoding/decoder.py")
        x = F.embedding(ids, self.tokens).float()
        if self.positions is not None:
            x += F.embedding(positions, self.positions)
        if config.extras:
            x = x * inverse_rms(x)
            gate = (x[..., :SMEAR_CHANNELS] * self.smear_gate).sum(-1, keepdim=True).sigmoid_()
            x = torch.addcmul(x, gate, cache.previous_embedding(x), value=self.smear_scale)
        x = x.view(B * T, -1)
        if config.extras:
            x0s = (self.x0_scales * x).unbind()  # x0 as it is added to the stream before each layer
        turn = None if self.rotary is None else self.rotary[positions][:, None]  # (B, 1, T, D/2)
        middle = x
        for index, (layer, memory) in enumerate(zip(self.layers, cache.layers, strict=True)):
            if config.extras:
                x = torch.add(x0s[index], x, alpha=self.residual_scales[index])
            x = layer(x, ids, turn, memory, last if T > 1 and index == config.n_layer - 1 else None)
            if index == config.n_layer // 2:
                middle = x
        if config.extras:
            x = torch.sub(x, middle if len(middle) == B else at(middle, last), alpha=self.backout_scale)
        cache.advance(T)
        return self.final_norm(x)


class Layer:
    """One block of the model; see `gpt.Block`."""

    def __init__(self, gpt: GPT, layer: int) -> None:
        config, block = gpt.config, gpt.blocks[layer]
        assert isinstance(block, Block)
        self.config, self.scale = config, block.attn.scale
        table = dict(gpt.value_embeds.items()).get(str(layer))
        self.values = table.weight if isinstance(table, Embedding) else None
        self.dtype = gpt.compute_dtype
        matrix: torch.Tensor = block.attn.qkv.flatten(0, 1)
        bias: torch.Tensor | None = block.attn.qkv_bias
        if config.positions == "rope":
            # Channels d and d + D/2 of queries and keys, which one angle turns, come to lie beside each other. No score
            # changes: it is a sum over channels.
            channels = torch.arange(2 * config.n_embd).view(-1, 2, config.head_dim // 2).mT.flatten()
            order = torch.cat((channels, torch.arange(2 * config.n_embd, 3 * config.n_embd)))
            matrix, bias = matrix[order], None if bias is None else bias[order]
        if block.attn.value_gate is not None:
            gate = block.attn.value_gate.weight
            matrix = torch.cat((matrix, F.pad(gate, (0, config.n_embd - VALUE_GATE_CHANNELS))))
            bias = None if bias is None else F.pad(bias, (0, config.n_head))
        self.qkv = Product(matrix, bias)
        self.attn_norm, self.mlp_norm = norm_of(block.attn_norm, self.dtype), norm_of(block.mlp_norm, self.dtype)
        self.proj = Product(block.attn.proj.weight, block.attn.proj.bias)
        self.mlp_fc = Product(block.mlp.fc.weight, block.mlp.fc.bias)
        self.mlp_proj = Product(block.mlp.proj.weight, block.mlp.proj.bias)

    def __iter__(self) -> Iterator[Product]:
        return iter((self.qkv, self.proj, self.mlp_fc, self.mlp_proj))

    def __call__(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        turn: torch.Tensor | None,
        memory: LayerCache,
        last: Sequence[int] | None,
    ) -> torch.Tensor:
        """The stream (N, C), which may be changed in place -> the stream after this layer; with `last` (B, C), of the
        one token of each row at that place."""
        q, k, v = self.heads(self.qkv(self.attn_norm(x)), ids, turn)
        if last is None:
            y = memory.attend(q, k, v, self.scale)
        else:
            x = at(x, last)
            y = memory.attend_last(q, k, v, self.scale, last)
        x += self.proj(y.transpose(1, 2).reshape(x.shape).to(self.dtype))
        hidden = self.mlp_norm(x)
        if self.config.activation == "relu_squared":
            hidden = self.mlp_fc(hidden).relu_().square_()
        else:
            hidden = F.gelu(self.mlp_fc(hidden), approximate="tanh")
        x += self.mlp_proj(hidden)
        return x

    def heads(self, qkv: torch.Tensor, ids: torch.Tensor, turn: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """(N, 3 C, and H gates) -> queries, keys and values (B, H, T, D): fp32, but where so many positions are new
        that their attention is faster in bf16."""
        (B, T), H, D, C = ids.shape, self.config.n_head, self.config.head_dim, self.config.n_embd
        y = qkv[:, : 3 * C].view(B, T, 3, H, D).permute(2, 0, 3, 1, 4)
        y = y.to(torch.float32, memory_format=torch.contiguous_format)
        qk, v = y[:2], y[2]
        if self.values is not None:
            gate = torch.sigmoid(qkv[:, 3 * C :]).view(B, T, H, 1).transpose(1, 2)  # (B, H, T, 1)
            v.addcmul_(gate, F.embedding(ids, self.values).view(B, T, H, D).transpose(1, 2), value=3)
        if turn is not None:
            torch.view_as_complex(qk.view(2, B, H, T, D // 2, 2)).mul_(turn)
        if self.config.qk_scale:
            qk.mul_(inverse_rms(qk))
        return (y if T <= FEW else y.to(qkv.dtype)).unbind()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch's operations in this Python thread use no others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def at(x: torch.Tensor, places: Sequence[int]) -> torch.Tensor:
    """(N, C) -> (B, C): the token of each row at the place that `places` names."""
    T = len(x) // len(places)
    return torch.stack([x[row * T + place] for row, place in enumerate(places)])


def norm_of(norm: Norm, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that a norm computes: fp32 -> `dtype`, rounded once."""
    weight, bias = (None if each is None else each.float() for each in (norm.weight, norm.bias))
    if weight is None:
        return lambda x: (x * inverse_rms(x)).to(dtype)
    return lambda x: F.layer_norm(x, (norm.width,), weight, bias).to(dtype)


def inverse_rms(x: torch.Tensor) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension of x, fp32: (..., 1). eps is that of torch's rms_norm."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(EPS, length, length, value=1 / x.size(-1)).rsqrt_()
