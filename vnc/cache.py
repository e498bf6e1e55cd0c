"""What a model remembers while it generates: the keys and values of past positions, in memory allocated once.

Each row of a batch has its own length, so prompts of different lengths share a batch without padding between them:
position p of a row lies in slot p of a layer that sees the whole context, and in slot p % window of a layer with a
window, which keeps no more than that. A forward pass may bring any number of tokens for each row: a prompt, the next
turn of a chat, or one token. Which slots are written, read and masked depends on lengths alone, so it is worked out
once for each pass and shared by all layers of equal window.

Used under `torch.inference_mode()` or `no_grad`. Shapes: B rows, T new positions, H heads, D = head_dim, S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F

from vnc.attention import attention, scaled_bmm
from vnc.config import GPTConfig

# Added to the scores of hidden keys. Its exponential is exactly 0 beside any real score, and unlike -inf it leaves rows
# that see nothing at all (padding, rows that have ended) finite.
HIDDEN = -30_000.0

# On the CPU a sum over keys is taken in vectors of up to 16 numbers. Reading whole vectors of slots, hidden ones
# included, a row's result is the same to the last bit whatever the lengths of its neighbours.
VECTOR = 16
# Up to so many new positions are attended one at a time on the CPU: then it makes no difference, to the last bit,
# whether a row reads a tool's output in one pass or token by token beside others.
FEW = 16


class KVCache:
    """The memory of a batch; `GPT.forward` reads and fills it."""

    def __init__(
        self,
        config: GPTConfig,
        rows: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        panel: int = 1,
    ) -> None:
        """Room for `length` positions in each of `rows` rows; keys and values are stored in `dtype`.

        panel: a reader that orders so many slots anew (vnc/decoder.c) finds whole panels of slots, and values of whole
        panels of channels.
        """
        self.config, self.rows, self.length, self.panel = config, rows, length, panel
        self.dtype, self.device = dtype, torch.device(device)
        self.timeline = Timeline(rows, length, self.device)
        self.layers = [LayerCache(self, min(window, length)) for window in config.windows]
        self.last_embedding: torch.Tensor | None = None  # (B, 1, C), for the smear of the next position
        self._reader: str | None = None  # see `begin`
        self.step: Callable[[KVCache, Sequence[int]], torch.Tensor] | None = None  # see vnc/decoding/recorded_steps.py
        self.passes_of_one = 0  # counted there

    @property
    def lengths(self) -> list[int]:
        """Positions that each row holds."""
        return list(self.timeline.lengths)

    @property
    def nbytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def expect(self, counts: Sequence[int]) -> None:
        """Announces the next pass: row b brings counts[b] tokens, at the left; what follows them is padding.

        Without it all T tokens of every row count. A count of 0 leaves a row as it is.
        """
        self.timeline.announced = list(counts)

    def begin(self, T: int, reader: str = "gpt.py") -> None:
        """Begins a pass of T tokens.

        reader: whose pass it is. Each orders and rounds what it keeps in its own way.
        Raises ValueError where a row has no room for the tokens, and where another one has read those before.
        """
        if self._reader not in (None, reader):
            raise ValueError(f"a cache that vnc/{self._reader} has filled is for its passes alone, not for {reader}'s")
        self.timeline.begin(T)
        self._reader = reader

    def positions(self, T: int, reader: str = "gpt.py") -> torch.Tensor:
        """Begins a pass of T tokens, as `begin`: their positions, (B, T) int64. Those of padding stay below
        `length`."""
        self.begin(T, reader)
        return self.timeline.positions()

    def previous_embedding(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C) -> (B, T, C): the embedding before each position, zeros before a row's first one."""
        if self.last_embedding is None:
            self.last_embedding = x.new_zeros(self.rows, 1, x.size(2))
        if self.timeline.one_each:
            previous, self.last_embedding = self.last_embedding, x
            return previous
        previous = torch.cat((self.last_embedding, x[:, :-1]), 1)
        self.last_embedding = self.timeline.last(torch.cat((self.last_embedding, x), 1))
        return previous

    def advance(self, T: int) -> None:
        """Ends the pass: its tokens are part of the past from now on."""
        self.timeline.end()

    def select(self, rows: Sequence[int]) -> KVCache:
        """A new cache that holds copies of these rows, in this order: fewer of them when some have ended, one of them
        many times when several continuations share a beginning."""
        chosen = KVCache(self.config, len(rows), self.length, self.dtype, self.device, self.panel)
        chosen.timeline.lengths = [self.timeline.lengths[row] for row in rows]
        index = torch.tensor(rows, device=self.device)
        for mine, theirs in zip(self.layers, chosen.layers, strict=True):
            used = whole(min(mine.slots, max(chosen.timeline.lengths, default=0)), self.panel)
            theirs.keys[:, :, :used] = mine.keys[index, :, :used]
            theirs.values[:, :, :used] = mine.values[index, :, :used]
        if self.last_embedding is not None:
            chosen.last_embedding = self.last_embedding[index]
        chosen._reader = self._reader
        return chosen

    def adopt(self, row: int, other: KVCache) -> None:
        """Row `row` becomes a copy of the only row of `other`, a cache of equal length, whatever it held."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            used = whole(min(mine.slots, other.timeline.lengths[0]), self.panel)
            mine.keys[row, :, :used] = theirs.keys[0, :, :used]
            mine.values[row, :, :used] = theirs.values[0, :, :used]
        if other.last_embedding is not None:
            if self.last_embedding is None:
                self.last_embedding = other.last_embedding.new_zeros(self.rows, *other.last_embedding.shape[1:])
            place = torch.tensor([row], device=self.device)  # not in place: it may be an inference tensor
            self.last_embedding = self.last_embedding.index_copy(0, place, other.last_embedding)
        self.timeline.lengths[row] = other.timeline.lengths[0]
        self._reader = other._reader

    def clear(self) -> None:
        """Forgets everything; the memory stays."""
        self.timeline.lengths = [0] * self.rows
        self.last_embedding = self._reader = None


def whole(size: int, unit: int) -> int:
    """`size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


def whole_vectors(length: int) -> int:
    """`length` rounded up to whole vectors."""
    return whole(length, VECTOR)


class LayerCache:
    """Keys and values of one layer, (B, H, S, D) each; S is its window, or the cache's length if that is less."""

    def __init__(self, cache: KVCache, slots: int) -> None:
        config, self.slots, self.timeline = cache.config, slots, cache.timeline
        shape, D = (cache.rows, config.n_head, whole(slots, cache.panel)), config.head_dim
        self.keys = torch.zeros(*shape, D, dtype=cache.dtype, device=cache.device)
        self.values = torch.zeros(*shape, whole(D, cache.panel), dtype=cache.dtype, device=cache.device)
        self._views: tuple[int, tuple[torch.Tensor, ...]] | None = None  # see `_read`

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """Stores the new keys and values; returns what the new queries find. All (B, H, T, D), in q's dtype."""
        step = self.timeline.step(self.slots)
        if step.fresh:  # only these tokens to see, as in training; padding comes later than what it could disturb
            self._store(step, k, v)
            return attention(q, k, v, self.slots, scale)
        T = q.size(2)
        if self.keys.device.type != "cpu" or T > FEW:
            return self._attend(step, q, k, v, scale)
        if T == 1:
            return self._attend_one(step, q, k, v, scale)
        found = []
        for token in range(T):
            one = slice(token, token + 1)
            step = self.timeline.step(self.slots, token)
            found.append(self._attend_one(step, q[:, :, one], k[:, :, one], v[:, :, one], scale))
        return torch.cat(found, 2)

    def _attend_one(self, step: Step, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """T = 1 on the CPU. The fused kernel shares out the keys of a small batch among threads, and then sums in
        another order than in a large one; `_find_one` does not."""
        self._store(step, k, v)
        return self._find_one(step, q, scale)

    def _find_one(self, step: Step, q: torch.Tensor, scale: float) -> torch.Tensor:
        """What one query of each row finds among the keys stored up to now: (B, H, 1, D).

        Reading keys and values is all the work there is. As rows of a matrix times a column, and as a weighted sum of
        rows, which is what an embedding bag is, they are read in 0.6 of the time of two products of a query's row."""
        B, H, _, D = q.shape
        keys, values, bags, offsets = self._read(step.used)
        queries, bias = q.to(keys.dtype).reshape(B * H, 1, D).mT, step.bias_of_heads(H, keys.dtype)
        if bias is None:
            scores = scaled_bmm(keys, queries, scale)  # (B H, used, 1)
        else:
            scores = torch.baddbmm(bias, keys, queries, alpha=scale)
        shares = torch.softmax(scores.view(B * H, -1), -1).view(-1)
        found = F.embedding_bag(bags, values, offsets, mode="sum", per_sample_weights=shares)
        return found.view(B, H, 1, D).to(q.dtype)

    def _read(self, used: int) -> tuple[torch.Tensor, ...]:
        """Keys (B H, used, D) of the first slots, all values (B H S, D), which of them each head of each row sums up
        (B H used), and where these begin (B H). Kept until `used` changes: to make them takes longer than attention
        itself for one row of a small model."""
        if self._views is None or self._views[0] != used:
            B, H, S, D = self.keys.shape
            first = torch.arange(B * H)
            bags = (S * first[:, None] + torch.arange(used)).view(-1)
            self._views = used, (self.keys.flatten(0, 1)[:, :used], self.values.view(-1, D), bags, used * first)
        return self._views[1]

    def attend_last(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, last: Sequence[int]
    ) -> torch.Tensor:
        """Stores like `attend`, and returns what the query at place last[b] of row b finds: (B, H, 1, D). That token
        must be the last of those that the row brings, and the layer see the whole context."""
        step = self.timeline.step(self.slots)
        if self.slots < self.timeline.length:
            raise ValueError(f"a layer with a window of {self.slots} may have overwritten what the last query sees")
        self._store(step, k, v)
        q = torch.stack([q[row, :, place] for row, place in enumerate(last)])[:, :, None]
        return self._find_one(self.timeline.step(self.slots, max(last)), q, scale)

    def _attend(self, step: Step, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        if step.store_first:
            self._store(step, k, v)
            keys, values = self.keys[:, :, : step.used], self.values[:, :, : step.used]
        else:  # the ring goes round within this pass: its oldest slots are still needed while they are overwritten
            keys = torch.cat((self.keys[:, :, : step.used], k.to(self.keys.dtype)), 2)
            values = torch.cat((self.values[:, :, : step.used], v.to(self.keys.dtype)), 2)
            self._store(step, k, v)
        y = F.scaled_dot_product_attention(q.to(keys.dtype), keys, values, attn_mask=step.bias(keys.dtype), scale=scale)
        return y.to(q.dtype)

    def _store(self, step: Step, k: torch.Tensor, v: torch.Tensor) -> None:
        if step.slot is not None:
            self.keys.narrow(2, step.slot, step.tokens).copy_(k)
            self.values.narrow(2, step.slot, step.tokens).copy_(v)
            return
        row, token, slot = step.destination
        self.keys[row, :, slot] = k[row, :, token].to(self.keys.dtype)
        self.values[row, :, slot] = v[row, :, token].to(self.keys.dtype)


class Timeline:
    """How many positions each row holds, and how many the present pass adds."""

    def __init__(self, rows: int, length: int, device: torch.device) -> None:
        self.length, self.device = length, device
        self.lengths = [0] * rows
        self.announced: list[int] | None = None
        self._tokens, self._counts = 0, [0] * rows
        self._steps: dict[tuple[int, int | None], Step] = {}

    def begin(self, T: int) -> None:
        counts, self.announced = self.announced or [T] * len(self.lengths), None
        if len(counts) != len(self.lengths) or not 0 <= min(counts) <= max(counts) <= T:
            raise ValueError(f"a pass of {T} tokens for {len(self.lengths)} rows cannot bring counts of {counts}")
        longest = max(map(sum, zip(self.lengths, counts, strict=True)))
        if longest > self.length:
            raise ValueError(f"a row would hold {longest} positions, more than the cache's {self.length}")
        self._tokens, self._counts = T, counts
        self._steps.clear()

    def positions(self) -> torch.Tensor:
        """Of the tokens that the present pass brings, padding included, (B, T)."""
        starts, steps = torch.tensor(self.lengths)[:, None], torch.arange(self._tokens)
        return (starts if self.one_each else (starts + steps).clamp_(max=self.length - 1)).to(self.device)

    @property
    def one_each(self) -> bool:
        """Whether the present pass brings one token of every row."""
        return self._tokens == 1 and min(self._counts) == 1

    def step(self, slots: int, token: int | None = None) -> Step:
        """The present pass as seen by a layer with so many slots: all its tokens together, or one of them, as if those
        before it had come in passes of their own."""
        step = self._steps.get((slots, token))
        if step is None:
            starts, counts, tokens = self.lengths, self._counts, self._tokens
            if token is not None:
                starts = [start + min(token, count) for start, count in zip(starts, counts, strict=True)]
                counts, tokens = [int(token < count) for count in counts], 1
            step = self._steps[slots, token] = Step(starts, counts, tokens, slots, self.device)
        return step

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1 + T, C), what was last before the pass and what the pass brings -> (B, 1, C), what is last after it."""
        if min(self._counts) == self._tokens:
            return x[:, -1:].clone()  # a view would keep all of x alive
        rows = torch.arange(len(self._counts), device=self.device)
        return x[rows, torch.tensor(self._counts, device=self.device)][:, None]

    def end(self) -> None:
        self.lengths = [length + count for length, count in zip(self.lengths, self._counts, strict=True)]


class Step:
    """One pass through a layer of `slots` slots: where the new keys go, which old ones are read, who sees whom."""

    def __init__(self, starts: list[int], counts: list[int], tokens: int, slots: int, device: torch.device) -> None:
        self.slots, self.tokens, self.device = slots, tokens, device
        self.starts, self.counts = starts, counts
        self.ends = ends = [start + count for start, count in zip(starts, counts, strict=True)]
        self.fresh = tokens > 1 and max(starts) == 0
        self.store_first = tokens == 1 or max(ends) <= slots
        self.used = min(slots, whole_vectors(max(ends if self.store_first else starts)))
        # A row's single token sees all slots that are read when it uses all of them itself.
        self.all_visible = tokens == 1 and min(ends) >= self.used
        # Where rows are equally long, and bring equally many tokens to slots beside each other, the first of those;
        # otherwise see `destination`.
        slot, together = starts[0] % slots, min(starts) == max(starts) and min(counts) == tokens
        self.slot = slot if together and slot + tokens <= slots else None
        self._bias: torch.Tensor | None = None
        self._bias_of_heads: torch.Tensor | None = None

    @cached_property
    def destination(self) -> tuple[torch.Tensor, ...]:
        """Row, token and slot of each key that is stored."""
        token, counts = torch.arange(self.tokens)[None], torch.tensor(self.counts)[:, None]
        row, token = ((token < counts) & (token >= counts - self.slots)).nonzero(as_tuple=True)
        slot = (torch.tensor(self.starts)[row] + token) % self.slots
        return tuple(index.to(self.device) for index in (row, token, slot))

    def bias(self, dtype: torch.dtype) -> torch.Tensor | None:
        """(B, 1, T, keys): 0 where a query may see a key, HIDDEN elsewhere; None where it may see all of them."""
        if self._bias is None and not self.all_visible:
            ends = torch.tensor(self.ends)[:, None]  # (B, 1)
            if self.tokens == 1:  # the slots fill up in order, and once they are full all may be seen
                hidden = torch.arange(self.used) >= ends
                self._bias = (hidden[:, None, None] * HIDDEN).to(self.device, dtype)
                return self._bias
            starts = torch.tensor(self.starts)[:, None]
            queries = starts + torch.arange(self.tokens)  # (B, T)
            if self.store_first:
                keys = self._positions_held(ends)
            else:
                keys = torch.cat((self._positions_held(starts), queries), 1)
            distance = queries[:, :, None] - keys[:, None, :]
            visible = (keys >= 0)[:, None, :] & (distance >= 0) & (distance < self.slots)
            self._bias = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, HIDDEN)[:, None].to(self.device)
        return self._bias

    def bias_of_heads(self, heads: int, dtype: torch.dtype) -> torch.Tensor | None:
        """`bias` for one token and all heads of all rows: (B H, used, 1), or None."""
        if self._bias_of_heads is None and not self.all_visible:
            bias = self.bias(dtype)
            assert bias is not None
            self._bias_of_heads = bias.expand(-1, heads, 1, self.used).reshape(-1, self.used, 1)
        return self._bias_of_heads

    def _positions_held(self, ends: torch.Tensor) -> torch.Tensor:
        """(B, used): the position whose key each slot holds in rows of so many positions; negative where none."""
        newest = ends - 1
        return newest - (newest - torch.arange(self.used)) % self.slots
