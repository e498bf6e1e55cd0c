"""One token after another on a GPU: the pass of one token for each row, recorded once as a CUDA graph and replayed.

Such a pass is hundreds of small kernels, and Python takes longer to ask for them than the GPU to run them. A recording
asks for all of them at once. It reads and writes the same memory each time, so what changes from one step to the next
(tokens, positions) lies in tensors, and attention looks at all slots of the cache and hides those that are empty.

Shapes as in vnc/cache.py: B rows, H heads, D = head_dim, S slots.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from vnc.cache import HIDDEN, KVCache, LayerCache
from vnc.gpt import GPT

CHECKS = 3  # passes of an engine's first recording: what was recorded wrongly would say wrong things silently
TOLERANCE = 0.05  # attention sums in another order there, and bf16 rounds; anything wrong is off by far more
PASSES_BEFORE = 2  # of one token through a cache, before it is worth a recording, which takes as long as twenty


def can_record(gpt: GPT) -> bool:
    """Whether steps of this model can be recorded: on CUDA, and frozen (`engine.freeze`), so that its weights stay."""
    return all(parameter.device.type == "cuda" and not parameter.requires_grad for parameter in gpt.parameters())


class StepRecorder:
    """Passes of one token for each row of a cache, recorded for each cache that sees several of them."""

    def __init__(self, gpt: GPT) -> None:
        self.gpt, self.checks, self.failed = gpt, CHECKS, False

    def logits(self, tokens: Sequence[int], cache: KVCache, due: Sequence[int]) -> torch.Tensor | None:
        """Feeds each row of a cache that expects it one token, any to those that expect none; returns (due, vocabulary)
        fp32 logits of the rows that are due. None, and nothing done, where the cache has no recording (yet). A row that
        expected nothing cannot go on afterwards."""
        if cache.step is None and not self._record(cache):
            return None
        assert cache.step is not None
        logits = cache.step(tokens)
        return logits if len(due) == cache.rows else logits[list(due)]

    def _record(self, cache: KVCache) -> bool:
        """Record now, if that is worth it and can be done."""
        cache.passes_of_one += 1
        if self.failed or cache.passes_of_one <= PASSES_BEFORE:
            return False
        try:
            cache.step = RecordedStep(self.gpt, cache, self.checks)
        except RuntimeError as error:
            self.failed = True
            warnings.warn(f"generating without CUDA graphs: {str(error).splitlines()[0]}", stacklevel=1)
            return False
        self.checks = 0
        return True


class RecordedStep:
    def __init__(self, gpt: GPT, cache: KVCache, checks: int) -> None:
        """checks: of so many passes the results are compared with those of passes that are not recorded."""
        self.step = OneTokenEach(gpt, cache)
        self._kept = gpt.rotary(cache.length) if gpt.config.positions == "rope" else None  # the model may make others
        self._graph = torch.cuda.CUDAGraph()
        self._checks = checks
        self._twin = cache.select(range(cache.rows)) if checks else None
        with torch.cuda.device(cache.device):
            stream = torch.cuda.Stream(cache.device)  # type: ignore[no-untyped-call]
            self.step.load([0] * cache.rows)
            stream.wait_stream(torch.cuda.current_stream(cache.device))
            with torch.cuda.stream(stream):  # loads kernels; the keys that it writes are those that come next
                self.step.compute()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._logits = self.step.compute()
            torch.cuda.current_stream(cache.device).wait_stream(stream)

    def __call__(self, tokens: Sequence[int]) -> torch.Tensor:
        """(B, vocabulary) fp32, overwritten by the next call."""
        self.step.begin(tokens)
        self._graph.replay()
        self.step.cache.advance(1)
        if self._twin is not None:
            self._check(self._twin, tokens)
        return self._logits

    def _check(self, twin: KVCache, tokens: Sequence[int]) -> None:
        counts = [after - before for after, before in zip(self.step.cache.lengths, twin.lengths, strict=True)]
        live = [row for row, count in enumerate(counts) if count]
        twin.expect(counts)
        hidden = self.step.gpt(torch.tensor(tokens, device=twin.device)[:, None], twin)
        wanted, found = self.step.gpt.logits(hidden[live, -1]), self._logits[live]
        if not (found - wanted).norm() <= TOLERANCE * wanted.norm():
            raise RuntimeError("a recorded pass of the model says something else than the pass itself")
        self._checks -= 1
        if not self._checks:
            self._twin = None


class OneTokenEach:
    """A pass that brings one token for each row of a cache, as `GPT.forward` sees it: in place of the cache, all of
    whose memory it shares."""

    def __init__(self, gpt: GPT, cache: KVCache) -> None:
        self.gpt, self.cache, self.length = gpt, cache, cache.length
        self.inputs = torch.zeros(2, cache.rows, 1, dtype=torch.int64, device=cache.device)  # ids and their positions
        self.rows = torch.arange(cache.rows, device=cache.device)
        self.last = torch.zeros(cache.rows, 1, gpt.config.n_embd, dtype=gpt.compute_dtype, device=cache.device)
        """The embeddings before the tokens."""
        self.layers = [OneTokenLayer(self, layer) for layer in cache.layers]
        self._places: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, tokens: Sequence[int]) -> None:
        """Begins a pass of the cache with these tokens; `compute` is the pass, `cache.advance` ends it."""
        self.cache.begin(1)
        self.load(tokens)
        previous = self.cache.last_embedding
        if previous is None:
            self.last.zero_()
        elif previous is not self.last:
            self.last.copy_(previous)
        self.cache.last_embedding = self.last

    def load(self, tokens: Sequence[int]) -> None:
        """Tokens, and where the rows stand. Rows that expect none, and may be full, stay inside the cache."""
        positions = [min(length, self.length - 1) for length in self.cache.lengths]
        self.inputs.copy_(torch.tensor([list(tokens), positions])[:, :, None])

    def compute(self) -> torch.Tensor:
        """(B, vocabulary) fp32 logits. All that it does is the same in each step."""
        self._places.clear()
        hidden = self.gpt(self.inputs[0], self)
        return self.gpt.logits(hidden[:, -1])

    # What `GPT.forward` calls.

    def positions(self, T: int) -> torch.Tensor:
        return self.inputs[1]

    def previous_embedding(self, x: torch.Tensor) -> torch.Tensor:
        previous = self.last.clone()
        self.last.copy_(x)
        return previous

    def advance(self, T: int) -> None:
        """Nothing: see `begin`."""

    def place(self, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For layers of so many slots: the slot of each row's new key (B,), and what is added to scores (B, 1, 1, S).
        Slots fill up in order, and once they are full all may be seen."""
        if slots not in self._places:
            position = self.inputs[1]
            hidden = torch.arange(slots, device=position.device) > position  # (B, S)
            bias = (hidden * HIDDEN).to(self.cache.dtype)[:, None, None]
            self._places[slots] = (position % slots)[:, 0], bias
        return self._places[slots]


class OneTokenLayer:
    def __init__(self, step: OneTokenEach, layer: LayerCache) -> None:
        self.step, self.keys, self.values, self.slots = step, layer.keys, layer.values, layer.slots

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """As `LayerCache.attend`, for (B, H, 1, D)."""
        slot, bias = self.step.place(self.slots)
        rows, dtype = self.step.rows, self.keys.dtype
        self.keys[rows, :, slot] = k[:, :, 0].to(dtype)
        self.values[rows, :, slot] = v[:, :, 0].to(dtype)
        found = F.scaled_dot_product_attention(q.to(dtype), self.keys, self.values, attn_mask=bias, scale=scale)
        return found.to(q.dtype)
