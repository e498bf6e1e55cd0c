"""Generation by a model that says what a script tells it: tool calls, streamed text, places that are taken over."""

import pytest
import torch

from tests.vnc.engine_events import ends, queued, small_vocabulary
from vnc.cache import KVCache
from vnc.config import GPTConfig
from vnc.engine import Engine, Event
from vnc.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_vocabulary()


class Scripted(torch.nn.Module):
    """Stands in for a GPT: a row whose first token is s reads scripts[s], and is expected to be fed its ids."""

    def __init__(self, vocab_size: int, scripts: dict[int, list[int]]) -> None:
        super().__init__()
        self.config = GPTConfig(vocab_size=vocab_size, sequence_len=64, n_layer=1, n_head=2, n_embd=64)
        self.compute_dtype, self.scripts = torch.float32, scripts
        self.wte = torch.nn.Embedding(1, 1)
        self.passes: list[tuple[int, int]] = []  # (rows, tokens) of each

    def forward(self, ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
        B, T = ids.shape
        self.passes.append((B, T))
        counts = cache.timeline.announced
        positions = cache.positions(T)
        first = ids[:, :1, None] if max(cache.lengths) == 0 else cache.last_embedding.long()
        cache.previous_embedding(first.expand(B, T, 1).float())
        cache.advance(T)
        for row, start, tokens, count in zip(
            first.flatten().tolist(), positions[:, 0].tolist(), ids, counts, strict=True
        ):
            assert tokens[:count].tolist() == self.scripts[row][start : start + count]
        return torch.stack((first[..., 0].expand(B, T), positions), -1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        following = [self.scripts[script][position + 1] for script, position in hidden.tolist()]
        return torch.nn.functional.one_hot(torch.tensor(following), self.config.vocab_size).float()


@pytest.fixture(scope="module")
def tools(tokenizer: Tokenizer):
    """Builds scripts: text as ids, calls in [..], outputs in {..}; each ends with <|im_end|>."""

    def script(first: int, text: str) -> list[int]:
        names = {"[": "<|tool_start|>", "]": "<|tool_end|>", "{": "<|output_start|>", "}": "<|output_end|>"}
        ids, plain = [first], ""
        for character in text:
            if character in names:
                ids += [*tokenizer.encode(plain), tokenizer.special(names[character])]
                plain = ""
            else:
                plain += character
        return [*ids, *tokenizer.encode(plain), tokenizer.special("<|im_end|>")]

    return script


def run(tokenizer: Tokenizer, scripts: dict[int, list[int]], max_tokens: int = 60) -> tuple[list[Event], Scripted]:
    model = Scripted(tokenizer.vocab_size, scripts)
    events = list(Engine(model, tokenizer).stream([[first] for first in scripts], max_tokens=max_tokens))
    return events, model


def test_a_tool_call_is_answered_in_place(tokenizer: Tokenizer, tools) -> None:
    """The script asserts that the output is fed to the model; only the call and the words around it are its own."""
    scripts = {1: tools(1, "Sum: [12+7]{19} cats.")}
    events, model = run(tokenizer, scripts)
    assert [event.token for event in events] == [*scripts[1][1:-1], None]
    by_kind = {kind: "".join(e.text for e in events if e.kind == kind) for kind in ("text", "tool", "output")}
    assert by_kind == {"text": "Sum:  cats.", "tool": "12+7", "output": "19"}
    assert ends(events) == {0: "stop"}
    assert max(model.passes) > (1, 1)  # the output was read in one pass, not token by token


# Calls at different times, outputs of different lengths, two calls, a refused one, none; a row that ends early.
TEXTS = {
    1: "a[12*12]{144} b",
    2: "no calls in here, just clocks and cats",
    3: "[1/3]{0.3333333333}[2**100]{1267650600228229401496703205376}",
    4: "x",
    5: 'the grey umbrella ["grey".count("e")]{1}',
    6: "[12 cats]{error: not arithmetic} oh",
}


def test_tool_calls_inside_a_batch(tokenizer: Tokenizer, tools) -> None:
    scripts = {first: tools(first, text) for first, text in TEXTS.items()}
    events, model = run(tokenizer, scripts)
    assert ends(events) == dict.fromkeys(range(6), "stop")
    # Rows with output to read did not make the others read padding.
    assert all(width == 1 for rows, width in model.passes if rows > 1)
    for row, script in enumerate(scripts.values()):
        assert [e.token for e in events if e.row == row and e.token is not None] == script[1:-1]


def test_tool_end_without_a_call_asks_nothing(tokenizer: Tokenizer, tools) -> None:
    scripts = {1: tools(1, "cats] and [no{}end"), 2: tools(2, "[12[3+4]{7}")}
    events, _ = run(tokenizer, scripts)
    for row in (0, 1):
        assert [e.token for e in events if e.row == row and e.token is not None] == scripts[row + 1][1:-1]


def test_tool_output_counts_towards_the_limit(tokenizer: Tokenizer, tools) -> None:
    scripts = {1: tools(1, "[2**100]{1267650600228229401496703205376} more")}
    before = scripts[1].index(tokenizer.special("<|output_start|>"))
    events, _ = run(tokenizer, scripts, max_tokens=before + 3)
    assert [event.token for event in events] == [*scripts[1][1 : before + 4], None]
    assert ends(events) == {0: "length"}


def test_streamed_text_is_whole_characters(tokenizer: Tokenizer, tools) -> None:
    text = "grüße 🕰️ 中文 ok"
    scripts = {1: tools(1, text), 2: tools(2, text * 2), 3: [3, *tokenizer.encode("🕰")[:-1], tokenizer.bos_id]}
    assert len(tokenizer.encode("🕰")) == 4  # bytes: no merge of the small vocabulary holds any of it
    events, _ = run(tokenizer, scripts)
    said = ["".join(event.text for event in events if event.row == row) for row in range(3)]
    assert said == [text, text * 2, "\N{REPLACEMENT CHARACTER}"]  # what never became whole is shown as such, at the end
    assert not any("\N{REPLACEMENT CHARACTER}" in event.text for event in events if event.row < 2)


def test_rows_that_have_ended_cost_nothing_for_long(tokenizer: Tokenizer, tools) -> None:
    scripts = {first: tools(first, "x" * (40 if first == 8 else 1)) for first in range(1, 9)}
    _, model = run(tokenizer, scripts)
    assert model.passes[0] == (8, 1) and model.passes[-1] == (1, 1)
    assert sum(rows for rows, _ in model.passes) < 8 * 3 + 42


def test_tool_calls_inside_a_queue(tokenizer: Tokenizer, tools) -> None:
    scripts = {first: tools(first, text) for first, text in TEXTS.items()}
    for places in (1, 2, 4):
        model = Scripted(tokenizer.vocab_size, scripts)
        engine = Engine(model, tokenizer)
        assert queued(engine, [[first] for first in scripts], max_tokens=60, places=places) == [
            script[1:-1] for script in scripts.values()
        ]
        assert max(rows for rows, _ in model.passes) == places


def test_places_are_taken_over_at_once(tokenizer: Tokenizer, tools) -> None:
    scripts = {first: tools(first, "x" * (30 if first == 8 else 3)) for first in range(1, 21)}
    model = Scripted(tokenizer.vocab_size, scripts)
    queued(Engine(model, tokenizer), [[first] for first in scripts], places=4)
    batch = [rows for rows, _ in model.passes if rows > 1]
    # 19 rows of 3 further tokens and one of 30, in 4 places: 22 passes would do if all rows fitted without a gap.
    assert len(batch) <= 30 and len(model.passes) < 75
