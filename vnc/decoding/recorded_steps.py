"""One token after another on a GPU: the pass of one token for each row, recorded once as a CUDA graph and replayed.

Such a pass is hundreds of small kernels, and Python takes longer to ask for them than the GPU to run them. A recording
asks for all of them at once. It reads and writes the same memory each time, so what changes from one step to the next
(tokens, positions) lies in tensors (one_token_each.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from vnc.cache import KVCache
from vnc.decoding.one_token_each import OneTokenEach
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
        self.gpt, self.failed, self.checks = gpt, False, CHECKS
        self._checked: tuple[KVCache, KVCache] | None = None  # the first that was recorded, and its plain copy

    @torch.inference_mode()
    def logits(self, tokens: Sequence[int], cache: KVCache, due: Sequence[int]) -> torch.Tensor | None:
        """Feeds each row of a cache that expects it one token, any to those that expect none; returns (due, vocabulary)
        fp32 logits of the rows that are due. None, and nothing done, where the cache has no recording (yet). A row that
        expected nothing cannot go on afterwards."""
        if cache.step is None and not self._record(cache):
            return None
        assert cache.step is not None
        logits = cache.step(cache, tokens)
        if self._checked is not None and self._checked[0] is cache:
            logits = self._check(cache, self._checked[1], tokens, logits)
        return logits if len(due) == cache.rows else logits[list(due)]

    def _record(self, cache: KVCache) -> bool:
        """Record now, if that is worth it and can be done."""
        cache.passes_of_one += 1
        if self.failed or cache.passes_of_one <= PASSES_BEFORE:
            return False
        copy = cache.select(range(cache.rows)) if self.checks and self._checked is None else None
        try:
            cache.step = RecordedStep(self.gpt, cache)
        except RuntimeError as error:
            self._give_up(str(error).splitlines()[0])
            return False
        if copy is not None:
            self._checked = cache, copy
        return True

    def _check(self, cache: KVCache, copy: KVCache, tokens: Sequence[int], found: torch.Tensor) -> torch.Tensor:
        """The logits (B, vocabulary) that the cache's recording has found, if they are those of a plain pass through
        its copy; otherwise these, and the cache is as after that pass."""
        counts = [after - before for after, before in zip(cache.lengths, copy.lengths, strict=True)]
        live = [row for row, count in enumerate(counts) if count]
        copy.expect(counts)
        wanted = self.gpt.logits(self.gpt(torch.tensor(tokens, device=copy.device)[:, None], copy)[:, -1])
        if (found[live] - wanted[live]).norm() <= TOLERANCE * wanted[live].norm():
            self.checks -= 1
            self._checked = None if self.checks == 0 else self._checked
            return found
        for mine, theirs in zip(cache.layers, copy.layers, strict=True):
            mine.keys.copy_(theirs.keys)
            mine.values.copy_(theirs.values)
        cache.last_embedding, cache.step, self._checked = copy.last_embedding, None, None
        self._give_up("a recorded pass said something else than the pass itself")
        return wanted

    def _give_up(self, reason: str) -> None:
        self.failed = True
        warnings.warn(f"generating without CUDA graphs: {reason}", stacklevel=1)


class RecordedStep:
    def __init__(self, gpt: GPT, cache: KVCache) -> None:
        self.gpt, self.step = gpt, OneTokenEach(cache)
        self._kept = gpt.rotary(cache.length) if gpt.config.positions == "rope" else None  # the model may make others
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(cache.device):
            stream = torch.cuda.Stream(cache.device)  # type: ignore[no-untyped-call]
            self.step.load(cache, [0] * cache.rows)
            stream.wait_stream(torch.cuda.current_stream(cache.device))
            with torch.cuda.stream(stream):  # loads kernels; the keys that it writes are those that come next
                self._compute()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._logits = self._compute()
            torch.cuda.current_stream(cache.device).wait_stream(stream)

    def __call__(self, cache: KVCache, tokens: Sequence[int]) -> torch.Tensor:
        """The next pass of the recorded cache: (B, vocabulary) fp32 logits, overwritten by the next call."""
        self.step.begin(cache, tokens)
        self._graph.replay()
        cache.advance(1)
        return self._logits

    def _compute(self) -> torch.Tensor:
        hidden = self.gpt(self.step.inputs[0], self.step)
        return self.gpt.logits(hidden[:, -1])
