"""Generation: prompts in, tokens out as they come, for one prompt or many of different lengths at once.

Every round feeds each row what is pending for it (the prompt at first, then its newest token), takes logits only where
a next token is due, and draws it. When a row closes a tool call, the call is worked out at once and its output becomes
pending for that row, as if the model had said it; other rows do not wait. Rows that have ended leave the batch once
they are half of it; where many prompts wait, `stream_queue` gives their places to the next ones instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from vnc.cache import KVCache, whole_vectors
from vnc.calculator import calculate
from vnc.conversation import BRACKETS, Kind
from vnc.decoding.c_decoder import CDecoder, can_decode_in_c
from vnc.decoding.decoder import Decoder, can_decode
from vnc.decoding.recorded_steps import StepRecorder, can_record
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.sampling import GREEDY, Sampling, sample
from vnc.tokenizer import StreamDecoder, Tokenizer

Finish = Literal["stop", "length", "context"]


@dataclass(frozen=True)
class Event:
    """One token of one row, or the end of the row."""

    row: int
    """Index of the prompt."""
    token: int | None
    """None for the last event of a row. The stop token itself is not among the events."""
    text: str
    """The characters that this token completes: whole ones only, and none for special tokens."""
    kind: Kind
    """text, or tool: what is being asked of the calculator, or output: what it answered."""
    finish: Finish | None = None
    """Why the row ended, in its last event. stop: it said a stop token or text; length: max_tokens; context: nothing
    more fits into the model's context."""


@dataclass
class _Row:
    """A prompt on its way: what the model has not read yet, what it has said, how much more it may say."""

    number: int
    pending: list[int]
    limit: int
    at_limit: Finish
    decoder: StreamDecoder
    said: int = 0
    kind: Kind = "text"
    call: list[int] = field(default_factory=list)
    stop_texts: tuple[str, ...] = ()
    text: str = ""
    """The end of what it has said, as far as a stop text may begin in it."""
    ended: bool = False

    def meets_stop_text(self, text: str) -> bool:
        """Takes in what was said last, and tells whether a stop text is complete now."""
        if not self.stop_texts:
            return False
        self.text += text
        met = any(stop in self.text for stop in self.stop_texts)
        self.text = self.text[-max(map(len, self.stop_texts)) :]
        return met


class Engine:
    def __init__(self, gpt: GPT, tokenizer: Tokenizer) -> None:
        """Neither is changed: a model in training can be sampled. One that is only read is read faster, on the CPU
        several times as fast, after `freeze` (vnc/decoding/decoder.py)."""
        self.gpt, self.tokenizer = gpt, tokenizer
        self.context = gpt.config.sequence_len
        self._c_decoder = CDecoder(gpt) if can_decode_in_c(gpt) else None
        self._decoder = Decoder(gpt) if self._c_decoder is None and can_decode(gpt) else None
        self._recorder = StepRecorder(gpt) if can_record(gpt) else None
        self._specials = frozenset(tokenizer.special_ids)
        self._kinds: dict[int, Kind] = {
            tokenizer.special("<|tool_start|>"): "tool",
            tokenizer.special("<|tool_end|>"): "text",
            tokenizer.special("<|output_start|>"): "output",
            tokenizer.special("<|output_end|>"): "text",
        }

    @property
    def device(self) -> torch.device:
        return self.gpt.wte.weight.device

    def new_cache(self, rows: int, length: int | None = None) -> KVCache:
        """An empty cache of `length` positions, by default the whole context, for the passes of this engine."""
        if self._c_decoder is not None:
            return self._c_decoder.new_cache(rows, length or self.context)
        return plain_cache(self.gpt, rows, length or self.context)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling = GREEDY,
        max_tokens: int = 256,
        stop_ids: Iterable[int] | None = None,
    ) -> list[list[int]]:
        """The ids that follow each prompt, tool output included, stop tokens excluded. See `stream`."""
        said: list[list[int]] = [[] for _ in prompts]
        for event in self.stream(prompts, sampling, max_tokens, stop_ids):
            if event.token is not None:
                said[event.row].append(event.token)
        return said

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling = GREEDY,
        max_tokens: int = 256,
        stop_ids: Iterable[int] | None = None,
        cache: KVCache | None = None,
    ) -> Generator[Event]:
        """Tokens as they come; each row's last event says why it ended.

        prompts: ids for each row, at least one; they need not be equally long. max_tokens counts tool output too.
        stop_ids: None for <|bos|> and <|im_end|>. cache: the prompts go on from what its rows hold, as the next turn of
        a chat does; afterwards it holds all but the tokens said last, which `cache.lengths` tells. Closing the iterator
        early leaves it usable too. Raises UserError for a prompt that is empty or longer than the context.
        """
        stops = frozenset(self._default_stops() if stop_ids is None else stop_ids)
        own = cache is None
        held = [0] * len(prompts) if cache is None else cache.lengths
        rows = [
            self._row(number, list(prompt), already, max_tokens)
            for number, (prompt, already) in enumerate(zip(prompts, held, strict=True))
        ]
        if cache is None:
            cache = self.new_cache(len(rows), self._length(rows))
        generators = sampling.generators(len(rows))
        for row in rows:
            if row.limit == 0:
                yield self._end(row, row.at_limit)
        prefilled = False
        while live := [row for row in rows if not row.ended]:
            if own and prefilled and 2 * len(live) <= len(rows):
                cache = cache.select([index for index, row in enumerate(rows) if not row.ended])
                rows = live
            # Prompts are read whole, the shorter ones padded. After that a row that has much to read (tool output)
            # takes as many rounds as it needs, so that the others are never padded.
            width = (min if prefilled else max)(len(row.pending) for row in live)
            prefilled = True
            fed = [[] if row.ended else row.pending[:width] for row in rows]
            due = [index for index, row in enumerate(rows) if not row.ended and len(row.pending) <= width]
            logits = self._logits(fed, due, cache, sampling, ended_for_good=own)
            for row in live:
                del row.pending[:width]
            tokens = sample(logits, sampling, [generators[rows[index].number] for index in due]).tolist()
            for index, token in zip(due, tokens, strict=True):
                yield from self._say(rows[index], token, stops)

    def stream_queue(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling = GREEDY,
        max_tokens: int = 256,
        stop_ids: Iterable[int] | None = None,
        places: int = 32,
        stop_texts: Sequence[str] = (),
    ) -> Generator[Event]:
        """Like `stream` for any number of prompts, at most `places` of them at a time: when a row ends, the next prompt
        takes its place (continuous batching). A row also ends once what it has said holds one of `stop_texts`; that is
        among its events.

        Each prompt is read alone, so it is never padded. On the CPU with bf16 products every row says to the last bit
        what it would say alone; with fp32 products the library sums differently for 1 to 15 rows than for more, which
        can decide between two tokens that are all but equally likely.
        """
        stops = frozenset(self._default_stops() if stop_ids is None else stop_ids)
        waiting = deque(self._row(number, list(prompt), 0, max_tokens) for number, prompt in enumerate(prompts))
        for row in waiting:
            row.stop_texts = tuple(stop_texts)
        if places < 1:
            raise ValueError(f"places={places}: must be at least 1")
        if not waiting:
            return
        length, generators = self._length(waiting), sampling.generators(len(waiting))
        reader, cache = self.new_cache(1, length), self.new_cache(min(places, len(waiting)), length)
        seats: list[_Row | None] = [None] * cache.rows

        def say(fed: list[list[int]], due: list[tuple[int, _Row]], cache: KVCache) -> Iterator[Event]:
            logits = self._logits(fed, [seat for seat, _ in due], cache, sampling, ended_for_good=True)
            tokens = sample(logits, sampling, [generators[row.number] for _, row in due]).tolist()
            for (_, row), token in zip(due, tokens, strict=True):
                yield from self._say(row, token, stops)

        while True:
            for seat in range(len(seats)):
                while waiting and seats[seat] is None:
                    row = waiting.popleft()
                    if row.limit == 0:
                        yield self._end(row, row.at_limit)
                        continue
                    fed, row.pending = [row.pending], []
                    reader.clear()
                    yield from say(fed, [(0, row)], reader)
                    if not row.ended:
                        cache.adopt(seat, reader)
                        seats[seat] = row
            live = [(seat, row) for seat, row in enumerate(seats) if row is not None]
            if not live:
                return
            if 2 * len(live) <= len(seats):
                cache = cache.select([seat for seat, _ in live])
                seats = [row for _, row in live]
                live = [(seat, row) for seat, (_, row) in enumerate(live)]
            width = min(len(row.pending) for _, row in live)  # see `stream`
            fed = [[] if row is None else row.pending[:width] for row in seats]
            for _, row in live:
                del row.pending[:width]
            yield from say(fed, [(seat, row) for seat, row in live if not row.pending], cache)
            seats = [None if row is None or row.ended else row for row in seats]

    def _length(self, rows: Iterable[_Row]) -> int:
        """Positions that the longest of these rows can come to, in whole vectors as far as the context goes."""
        longest = max((len(row.pending) + row.limit for row in rows), default=1)
        return min(self.context, whole_vectors(longest))

    def _row(self, number: int, prompt: list[int], held: int, max_tokens: int) -> _Row:
        room = self.context - held - len(prompt)
        if not prompt:
            raise UserError(f"prompt {number}: empty; give it at least the <|bos|> token")
        if room < 0:
            raise UserError(
                f"prompt {number}: {held + len(prompt)} tokens, more than the model's context of {self.context}; "
                "shorten it (`newest_part` keeps its end)"
            )
        if max_tokens < 1:
            raise UserError(f"max_tokens={max_tokens}: must be at least 1")
        at_limit: Finish = "length" if max_tokens <= room else "context"
        return _Row(number, prompt, min(max_tokens, room), at_limit, StreamDecoder(self.tokenizer))

    def read(self, ids: Sequence[int], cache: KVCache) -> None:
        """Feeds the only row of a cache tokens after which nothing is to be said yet: a long prompt in pieces, the last
        of which goes to `stream`."""
        self._logits([list(ids)], [], cache, GREEDY)

    @torch.inference_mode()
    def _logits(
        self,
        fed: list[list[int]],
        due: list[int],
        cache: KVCache,
        sampling: Sampling,
        ended_for_good: bool = False,
    ) -> torch.Tensor:
        """Feeds each row its tokens, perhaps none; returns (due, vocabulary) fp32 logits, after the last token of each
        row that is due. ended_for_good: a row that gets none will never go on."""
        if self._c_decoder is not None:
            return self._c_decoder.logits(fed, cache, due, capped=sampling.temperature > 0)
        width = max(map(len, fed))
        counts = [len(tokens) for tokens in fed]
        cache.expect(counts)
        if self._recorder is not None and width == 1 and (ended_for_good or min(counts) == 1):
            logits = self._recorder.logits([tokens[0] if tokens else 0 for tokens in fed], cache, due)
            if logits is not None:
                return logits
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens in fed], device=self.device)
        last = [max(0, count - 1) for count in counts]
        if self._decoder is not None:
            return self._decoder.logits(ids, cache, last, due, capped=sampling.temperature > 0)
        hidden = self.gpt(ids, cache)
        return self.gpt.logits(hidden[due, [last[index] for index in due]])

    def _say(self, row: _Row, token: int, stops: frozenset[int]) -> Iterator[Event]:
        """Appends a token that the model chose, and what the tool answers to it."""
        if token in stops:
            yield self._end(row, "stop")
            return
        said = [token]
        if token == self.tokenizer.special("<|tool_end|>") and row.kind == "tool":
            output = self.tokenizer.encode(calculate(self.tokenizer.decode(row.call)))
            said += [self.tokenizer.special("<|output_start|>"), *output, self.tokenizer.special("<|output_end|>")]
        for each in said[: row.limit - row.said]:
            event = self._append(row, each)
            yield event
            if row.meets_stop_text(event.text):
                yield self._end(row, "stop")
                return
        if row.said == row.limit:
            yield self._end(row, row.at_limit)

    def _append(self, row: _Row, token: int) -> Event:
        row.pending.append(token)
        row.said += 1
        if token in self._specials:
            kind, text = row.kind, row.decoder.flush()
            row.kind = self._kinds.get(token, row.kind)
            row.call = []
            return Event(row.number, token, text, kind)
        if row.kind == "tool":
            row.call.append(token)
        return Event(row.number, token, row.decoder.feed(token), row.kind)

    def _end(self, row: _Row, finish: Finish) -> Event:
        row.ended = True
        return Event(row.number, None, row.decoder.flush(), row.kind, finish)

    def _default_stops(self) -> tuple[int, int]:
        return self.tokenizer.bos_id, self.tokenizer.special("<|im_end|>")


def plain_cache(gpt: GPT, rows: int, length: int) -> KVCache:
    """An empty cache for passes of the model itself, or of vnc/decoding/decoder.py.

    On the CPU it holds fp32 whatever the compute dtype: attention of one bf16 query among bf16 keys takes 5 to 8 times
    as long there.
    """
    device = gpt.wte.weight.device
    return KVCache(gpt.config, rows, length, torch.float32 if device.type == "cpu" else gpt.compute_dtype, device)


def transcript(events: Iterable[Event]) -> str:
    """What one row said, calculator calls as [12*7=84]."""
    written, kind = "", "text"
    for event in events:
        if event.text and event.kind != kind:
            written += BRACKETS[kind, event.kind]  # type: ignore[index]
            kind = event.kind
        written += event.text
    return written if kind == "text" else written + BRACKETS[kind, "text"]  # type: ignore[index]


def newest_part(prompt: list[int], room: int) -> tuple[list[int], int]:
    """A prompt that takes at most `room` tokens: its first token, <|bos|>, and then its newest ones; and how many were
    left out."""
    left_out = max(0, len(prompt) - room)
    return (prompt[:1] + prompt[1 + left_out :] if left_out else prompt), left_out


def freeze(gpt: GPT) -> GPT:
    """Readies a model that will not be trained any further, in place: matrices and embeddings are cast to the compute
    dtype once and not at each use. The results stay the same, bit for bit. Vectors and scalars keep their dtype:
    next to nothing is gained there."""
    for parameter in gpt.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() >= 2:
            parameter.data = parameter.data.to(gpt.compute_dtype)
    return gpt


def frozen_copy(gpt: GPT) -> GPT:
    """A model for inference that says what `gpt` says, bit for bit, and shares no gradients, hooks or compiled code
    with it: for a model in training, whose own matrices would be cast anew in every pass."""
    with torch.device("meta"):
        copy = GPT(gpt.config, gpt.compute_dtype)
    weights = {
        name: parameter.detach().to(gpt.compute_dtype if parameter.dim() >= 2 else parameter.dtype)
        for name, parameter in gpt.named_parameters()
    }
    copy.load_state_dict(weights, assign=True)
    return copy.eval().requires_grad_(False)
