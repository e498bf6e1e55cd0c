"""The forward pass of a frozen model on a CPU, as one call of C (vnc/c/decoder.c), for generation.

It serves on x86 processors with AVX2, in bf16 on those with AVX512-BF16, where a C compiler is at hand; elsewhere
decoder.py does the same by torch's operations. Its matrices are a second copy, reordered into panels. Which tokens a
row has read, and whether there is room for more, is still the cache's business.
"""

from __future__ import annotations

import ctypes
import time
from collections import defaultdict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F

from vnc.c.library import library
from vnc.cache import KVCache
from vnc.decoding.decoder import can_decode
from vnc.decoding.thread_trials import ThreadTrials
from vnc.gpt import GPT, Block, Norm
from vnc.loss import cap_logits

Address, Long, Float = ctypes.c_void_p, ctypes.c_long, ctypes.c_float


class CMatrix(ctypes.Structure):
    _fields_ = [("weights", Address), ("bias", Address), ("inputs", Long), ("outputs", Long)]


class CNorm(ctypes.Structure):
    _fields_ = [("weight", Address), ("bias", Address)]


class CLayer(ctypes.Structure):
    _fields_ = [
        *((name, CMatrix) for name in ("qkv", "proj", "fc", "mlp_proj")),
        *((name, CNorm) for name in ("attn_norm", "mlp_norm")),
        *((name, Address) for name in ("value_table", "value_gate")),
        *((name, Float) for name in ("residual_scale", "x0_scale")),
    ]


class CModel(ctypes.Structure):
    _fields_ = [
        *((name, Long) for name in ("layers", "heads", "head_dim", "extras", "gelu", "qk_norm")),
        *((name, Float) for name in ("attention_scale", "smear_scale", "backout_scale")),
        *((name, Address) for name in ("embeddings", "positions", "cos", "sin", "smear_gate")),
        ("layer", ctypes.POINTER(CLayer)),
        ("final_norm", CNorm),
        ("head", CMatrix),
    ]


class CPass(ctypes.Structure):
    _fields_ = [
        *((name, Long) for name in ("rows", "due", "threads")),
        *((name, ctypes.POINTER(ctypes.c_int64)) for name in ("ids", "start", "count", "due_rows")),
        ("last_embedding", Address),
        *((name, ctypes.POINTER(Address)) for name in ("keys", "values")),
        ("slots", ctypes.POINTER(ctypes.c_int64)),
        ("logits", Address),
    ]


def can_decode_in_c(gpt: GPT) -> bool:
    even = gpt.config.n_embd % 2 == 0 and gpt.config.head_dim % 2 == 0
    return even and can_decode(gpt) and library("decoder", gpt.compute_dtype) is not None


def panels(weight: torch.Tensor, columns: int) -> torch.Tensor:
    """A matrix (out, in) in the order in which `decoder.c` reads it: (out / columns, in / pair, columns, pair), with
    zeros for what is missing. In bf16 a pair of inputs is multiplied at once."""
    pair = 2 if weight.dtype == torch.bfloat16 else 1
    weight = F.pad(weight, (0, 0, 0, -len(weight) % columns))
    return weight.view(-1, columns, weight.size(1) // pair, pair).transpose(1, 2).contiguous()


class CDecoder:
    """What `gpt` computes, for one that `can_decode_in_c` accepts."""

    def __init__(self, gpt: GPT) -> None:
        config, found = gpt.config, library("decoder", gpt.compute_dtype)
        assert found is not None
        self.config, self.dtype = config, gpt.compute_dtype
        self._forward, self._columns = found.forward, ctypes.c_long.in_dll(found, "panel_columns").value
        self._kept: list[object] = []  # what the structures point to
        self._caches: WeakKeyDictionary[KVCache, CPass] = WeakKeyDictionary()
        self._trials: defaultdict[int, ThreadTrials] = defaultdict(ThreadTrials)  # for tokens of so many binary digits
        layers = (CLayer * config.n_layer)(*(self._layer(gpt, layer) for layer in range(config.n_layer)))
        self._kept.append(layers)
        model = self._model = CModel(
            layers=config.n_layer,
            heads=config.n_head,
            head_dim=config.head_dim,
            extras=config.extras,
            gelu=config.activation == "gelu",
            qk_norm=bool(config.qk_scale),
            attention_scale=_block(gpt, 0).attn.scale,
            embeddings=self._address(gpt.wte.weight),
            positions=None if gpt.wpe is None else self._address(gpt.wpe.weight),
            layer=layers,
            final_norm=self._norm(gpt.final_norm),
            head=self._matrix(gpt.head[: config.vocab_size], None),
        )
        if config.positions == "rope":
            model.cos, model.sin = (self._numbers(table) for table in gpt.rotary(config.sequence_len))
        if config.extras:
            # Scales are taken as `GPT.forward` multiplies with them: rounded to the compute dtype.
            rounded = {name: value.to(gpt.compute_dtype) for name, value in gpt.named_parameters(recurse=False)}
            model.smear_gate = self._numbers(gpt.smear_gate.weight[0])
            model.smear_scale, model.backout_scale = rounded["smear_scale"].item(), rounded["backout_scale"].item()
            scales = zip(rounded["residual_scale"].tolist(), rounded["x0_scale"].tolist(), strict=True)
            for layer, (residual, x0) in zip(layers, scales, strict=True):
                layer.residual_scale, layer.x0_scale = residual, x0

    def new_cache(self, rows: int, length: int) -> KVCache:
        """An empty cache that its passes can fill, and no others."""
        return KVCache(self.config, rows, length, self.dtype, panel=self._columns)

    def logits(
        self, fed: Sequence[Sequence[int]], cache: KVCache, due: Sequence[int], capped: bool = True
    ) -> torch.Tensor:
        """Token ids for each row, perhaps none, which continue what the cache holds -> fp32 logits after the last token
        of rows that are due, (due, V). Those must bring a token.

        capped: by the model's soft cap, which does not change their order.
        """
        ids, counts = [token for row in fed for token in row], [len(row) for row in fed]
        # C would read and write wherever it is told to.
        if not all(counts[row] for row in due) or not 0 <= min(ids) <= max(ids) < self.config.padded_vocab_size:
            raise ValueError(
                f"rows {list(due)} of {len(fed)} are due, with {counts} tokens from {min(ids)} to {max(ids)}"
            )
        found = self._pass(cache)
        cache.expect(counts)
        cache.begin(max(counts), "c/decoder.c")
        if cache.last_embedding is None:
            cache.last_embedding = torch.zeros(cache.rows, 1, self.config.n_embd)
        logits = torch.empty(len(due), self.config.vocab_size)
        trials = self._trials[len(ids).bit_length()] if torch.get_num_threads() > 1 else None
        alone = trials is None or trials.alone
        found.due, found.threads = len(due), 1 if alone else torch.get_num_threads()
        numbers = (ids, cache.lengths, counts, due)
        found.ids, found.start, found.count, found.due_rows = ((ctypes.c_int64 * len(each))(*each) for each in numbers)
        found.last_embedding, found.logits = cache.last_embedding.data_ptr(), logits.data_ptr()
        start = time.perf_counter()
        if self._forward(ctypes.byref(self._model), ctypes.byref(found)):
            raise MemoryError(f"a pass of {len(ids)} tokens")
        if trials is not None:
            trials.took(alone, (time.perf_counter() - start) / len(ids))
        cache.advance(max(counts))
        return cap_logits(logits, self.config.logit_softcap if capped else 0.0)

    def _pass(self, cache: KVCache) -> CPass:
        """What stays the same in all passes of a cache."""
        found = self._caches.get(cache)
        if found is None:
            layers, length = cache.layers, self.config.sequence_len
            if (cache.config, cache.dtype, cache.panel) != (self.config, self.dtype, self._columns):
                raise ValueError("a cache of another model, or not one that `new_cache` has made")
            if cache.length > length:
                raise ValueError(f"a cache of {cache.length} positions, more than the model's context of {length}")
            addresses = Address * len(layers)
            found = self._caches[cache] = CPass(
                rows=cache.rows,
                keys=addresses(*(layer.keys.data_ptr() for layer in layers)),
                values=addresses(*(layer.values.data_ptr() for layer in layers)),
                slots=(ctypes.c_int64 * len(layers))(*(layer.slots for layer in layers)),
            )
        return found

    def _layer(self, gpt: GPT, layer: int) -> CLayer:
        block = _block(gpt, layer)
        attn, mlp = block.attn, block.mlp
        made = CLayer(
            qkv=self._matrix(attn.qkv.flatten(0, 1), attn.qkv_bias),
            proj=self._matrix(attn.proj.weight, attn.proj.bias),
            fc=self._matrix(mlp.fc.weight, mlp.fc.bias),
            mlp_proj=self._matrix(mlp.proj.weight, mlp.proj.bias),
            attn_norm=self._norm(block.attn_norm),
            mlp_norm=self._norm(block.mlp_norm),
        )
        if attn.value_gate is not None:
            made.value_table = self._address(gpt.value_table(layer))
            made.value_gate = self._numbers(attn.value_gate.weight)
        return made

    def _matrix(self, weight: torch.Tensor, bias: torch.Tensor | None) -> CMatrix:
        outputs, inputs = weight.shape
        padded = None if bias is None else F.pad(bias.detach().to(weight.dtype), (0, -outputs % self._columns))
        rounded = None if padded is None else self._numbers(padded)
        return CMatrix(self._address(panels(weight.detach(), self._columns)), rounded, inputs, outputs)

    def _norm(self, norm: Norm) -> CNorm:
        return CNorm(*(None if each is None else self._numbers(each) for each in (norm.weight, norm.bias)))

    def _numbers(self, tensor: torch.Tensor) -> int:
        """The address of these numbers in fp32."""
        return self._address(tensor.detach().float())

    def _address(self, tensor: torch.Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _block(gpt: GPT, layer: int) -> Block:
    block = gpt.blocks[layer]
    assert isinstance(block, Block)
    return block
