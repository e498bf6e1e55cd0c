"""What lets a GPT read trees (trees.py): it stands where the KV cache stands in `GPT.forward`.

A token sees the keys of the stem and of its own branch, as far back in its own prompt as the layer's window reaches.
Both follow from two numbers for each token, its position and its branch:

    query i sees key j  <=>  0 <= position[i] - position[j] < window, and branch[j] is the stem or branch[i]

As in vnc/attention.py, a CPU works in blocks of queries, each against just the keys that some query of it can see. Used
under `no_grad`. Shapes: B trees, T tokens, H heads, D = head_dim.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from vnc.attention import QUERY_BLOCK
from vnc.cache import HIDDEN
from vnc.config import GPTConfig
from vnc.evals.trees import PADDING, STEM, Grove


class TreeReading:
    """One pass over a grove, with the methods of a KVCache that GPT.forward calls."""

    def __init__(self, config: GPTConfig, grove: Grove, device: torch.device) -> None:
        self.length = int(grove.positions.max()) + 1
        self.sight = Sight(grove, device)
        self.layers = [TreeLayer(self.sight, window) for window in config.windows]
        self._positions = torch.from_numpy(grove.positions).to(device)
        self._before = torch.from_numpy(grove.before).to(device)

    def positions(self, T: int) -> torch.Tensor:
        """(B, T) int64."""
        return self._positions

    def previous_embedding(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, T, C): the embedding of the token before each in its own prompt, zeros before the first."""
        index = self._before.clamp(min=0)[:, :, None].expand_as(x)
        return x.gather(1, index) * (self._before >= 0)[:, :, None]

    def advance(self, T: int) -> None:
        """Nothing follows."""


class TreeLayer:
    """One layer's attention."""

    def __init__(self, sight: Sight, window: int) -> None:
        self.sight, self.window = sight, window

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """What the queries find, (B, H, Q, D) like them; k, v: (B, H, T, D). The queries are the last Q tokens' own."""
        B, H, T, D = k.shape
        skipped = T - q.size(2)
        if q.device.type != "cpu":
            bias = self.sight.bias(skipped, T, 0, self.window, q.dtype)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None], scale=scale)
        q, k, v = (x.reshape(B * H, -1, D) for x in (q, k, v))
        out = torch.empty_like(q)
        for start, stop, first in self.sight.blocks(skipped, self.window):
            bias = self.sight.bias(start, stop, first, self.window, q.dtype)
            if bias.size(0) > 1:
                bias = bias.repeat_interleave(H, 0)
            block = slice(start - skipped, stop - skipped)
            scores = torch.baddbmm(bias, q[:, block], k[:, first:stop].mT, alpha=scale)
            out[:, block] = torch.bmm(torch.softmax(scores, dim=-1), v[:, first:stop])
        return out.view(B, H, T - skipped, D)


class Sight:
    """Who sees whom in a grove; worked out once for all layers of equal window."""

    def __init__(self, grove: Grove, device: torch.device) -> None:
        self.grove, self.device = grove, device
        self._biases: dict[tuple[int, int, torch.dtype], torch.Tensor] = {}

    @cached_property
    def stem(self) -> int:
        """Tokens that are stem in every tree: there all trees look alike."""
        others = (self.grove.branches != STEM).any(axis=0)
        return int(others.argmax()) if others.any() else len(others)

    def blocks(self, skipped: int, window: int) -> list[tuple[int, int, int]]:
        """(first query, end of queries, first key) of each block, from query `skipped` on. A token's index in the
        row is never below its position, so no key before the earliest position in sight can be seen."""
        positions, branches = self.grove.positions, self.grove.branches
        blocks, time = [], positions.shape[1]
        for start in range(skipped, time, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, time)
            live = branches[:, start:stop] != PADDING
            earliest = int(positions[:, start:stop].min(initial=start, where=live))
            blocks.append((start, stop, max(0, earliest - window + 1)))
        return blocks

    def bias(self, start: int, stop: int, first: int, window: int, dtype: torch.dtype) -> torch.Tensor:
        """(B or 1, queries, keys): 0 where a query start..stop may see a key first..stop, HIDDEN elsewhere."""
        key = (start, window, dtype)
        if key not in self._biases:
            rows = slice(0, 1) if stop <= self.stem else slice(None)
            positions, branches = self.grove.positions[rows], self.grove.branches[rows]
            distance = positions[:, start:stop, None] - positions[:, None, first:stop]
            of_query, of_key = branches[:, start:stop, None], branches[:, None, first:stop]
            visible = (distance >= 0) & (distance < window) & ((of_key == STEM) | (of_key == of_query))
            bias = np.where(visible, np.float32(0), np.float32(HIDDEN))
            self._biases[key] = torch.from_numpy(bias).to(self.device, dtype)
        return self._biases[key]
