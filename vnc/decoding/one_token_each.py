"""A cache as `GPT.forward` sees it in a pass that is recorded and replayed (recorded_steps.py): one token for each row,
and what differs from one pass to the next in tensors. Attention looks at all slots and hides those that are empty.

Shapes as in vnc/cache.py: B rows, H heads, D = head_dim, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from vnc.cache import HIDDEN, KVCache, LayerCache


class OneTokenEach:
    """Takes the place of a cache, whose keys and values it shares. There is no circle of references: these lie in a
    GPU's memory, and should go with the last one who needs them."""

    def __init__(self, cache: KVCache) -> None:
        """The model must compute in the dtype that the cache holds."""
        self.length, self.dtype = cache.length, cache.dtype
        self.inputs = torch.zeros(2, cache.rows, 1, dtype=torch.int64, device=cache.device)  # ids and their positions
        self.rows = torch.arange(cache.rows, device=cache.device)
        self.last = torch.zeros(cache.rows, 1, cache.config.n_embd, dtype=cache.dtype, device=cache.device)
        """The embeddings before the tokens."""
        self._layers = cache.layers
        self._places: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def begin(self, cache: KVCache, tokens: Sequence[int]) -> None:
        """Begins a pass of that cache with these tokens; `GPT.forward` of `inputs[0]` is the pass, and `advance` of the
        cache ends it."""
        cache.begin(1)
        self.load(cache, tokens)
        previous = cache.last_embedding
        if previous is None:
            self.last.zero_()
        elif previous is not self.last:
            self.last.copy_(previous)
        cache.last_embedding = self.last

    def load(self, cache: KVCache, tokens: Sequence[int]) -> None:
        """Tokens, and where the rows stand. Rows that expect none, and may be full, stay inside the cache."""
        positions = [min(length, self.length - 1) for length in cache.lengths]
        self.inputs.copy_(torch.tensor([list(tokens), positions])[:, :, None])

    # What `GPT.forward` calls.

    @property
    def layers(self) -> list[OneTokenLayer]:
        return [OneTokenLayer(self, layer) for layer in self._layers]

    def positions(self, T: int) -> torch.Tensor:
        self._places.clear()
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
            bias = (hidden * HIDDEN).to(self.dtype)[:, None, None]
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
