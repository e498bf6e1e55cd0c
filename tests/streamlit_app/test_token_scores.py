"""The token view's numbers against one pass of the model over the whole text, and its HTML."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from streamlit_app.chat_server import ChatServer, Question
from streamlit_app.prompts import chat_prompt
from streamlit_app.token_scores import AT_ONCE, Alternative, TokenScore, legible, token_kinds, token_scores
from streamlit_app.token_view import SHOWN, shade, summary, token_html
from tests.streamlit_app.parrot import ANSWERS
from tests.streamlit_app.test_chat_server import PARROT, finished
from vnc.chat import open_model
from vnc.engine import Engine


@pytest.fixture(scope="module")
def engine(parrots: Path) -> Engine:
    loaded = open_model(str(parrots / PARROT))
    return Engine(loaded.gpt, loaded.tokenizer)


@pytest.mark.parametrize(
    "prompt_length, said_length", [(1, 1), (1, 200), (AT_ONCE, 3), (AT_ONCE + 1, AT_ONCE), (150, 9)]
)
def test_probabilities_are_those_of_one_whole_pass(engine: Engine, prompt_length: int, said_length: int) -> None:
    generator = torch.Generator().manual_seed(prompt_length)
    ids = torch.randint(0, 270, (prompt_length + said_length,), generator=generator).tolist()
    with torch.inference_mode():
        whole = torch.log_softmax(engine.gpt.logits(engine.gpt(torch.tensor([ids[:-1]]))[0]), -1)[prompt_length - 1 :]
    scores = [each for part in token_scores(engine, ids[:prompt_length], ids[prompt_length:], 4) for each in part]
    assert len(scores) == said_length
    tolerance = dict(rel_tol=0.1, abs_tol=1e-4) if engine.gpt.compute_dtype == torch.bfloat16 else dict(rel_tol=1e-3)
    for score, row, token in zip(scores, whole, ids[prompt_length:], strict=True):
        assert math.isclose(score.probability, float(row[token].exp()), **tolerance)
        assert math.isclose(score.bits, -math.log2(score.probability))
        assert score.text == legible(token, engine.tokenizer)
        assert [each.probability for each in score.alternatives] == sorted(
            (each.probability for each in score.alternatives), reverse=True
        )
        assert math.isclose(score.alternatives[0].probability, float(row.max().exp()), **tolerance)
        assert score.rank == 1 or score.probability < score.alternatives[0].probability


def test_what_was_learnt_by_heart_does_not_surprise(parrots: Path) -> None:
    server = ChatServer()
    parrot = server.open(parrots, PARROT)
    answer = finished(server.ask(parrot, Question("me", 0, "What is 12*7?")))
    scores = server.score(parrot, "me", answer.prompt.ids, answer.tokens, 5).result(30)
    strange = server.score(parrot, "me", answer.prompt.ids, parrot.loaded.tokenizer.encode("zebra"), 5).result(30)
    server.close()
    own = [score for score in scores if score.kind != "output"]
    assert all(score.bits < 0.5 and score.rank == 1 for score in own)
    assert strange[0].bits > 3 and strange[0].rank > 1
    kinds = "".join(score.kind[0] for score in scores)
    assert kinds.strip("t").strip("o") == "" and "o" in kinds  # text and tool, output, text
    assert "".join(score.text for score in scores if score.kind == "output") == "<|output_start|>84<|output_end|>"


def test_kinds_of_tokens(engine: Engine) -> None:
    words = engine.tokenizer
    ids = chat_prompt("", (), "x", words, 100).ids
    assert set(token_kinds(ids, words)) == {"text"}
    marks = [words.special(f"<|{name}|>") for name in ("tool_start", "tool_end", "output_start", "output_end")]
    assert token_kinds([65, marks[0], 66, marks[1], marks[2], 67, marks[3], 68], words) == [
        "text", "tool", "tool", "tool", "output", "output", "output", "text",
    ]  # fmt: skip
    assert token_kinds([marks[0], 66], words) == ["tool", "tool"]


def test_tokens_that_are_no_characters(engine: Engine) -> None:
    singles = {engine.tokenizer.decode_bytes([token]): token for token in range(256)}
    assert legible(singles[b"\xf0"], engine.tokenizer) == "<f0>" and legible(singles[b"a"], engine.tokenizer) == "a"


class Reading(HTMLParser):
    """The text of HTML, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.tags = "", []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def score(text: str, probability: float, *alternatives: tuple[str, float], kind="text", rank: int = 1) -> TokenScore:
    return TokenScore(text, kind, probability, rank, tuple(Alternative(*each) for each in alternatives))


def test_html_shows_shades_alternatives_and_no_foreign_marks() -> None:
    hostile = '"><script>alert(1)</script><b onclick=x>'
    read = Reading(token_html([
        score("a", 1.0, ("a", 1.0)), score(hostile, 0.25, ("b", 0.5), (hostile, 0.25)),
        score("c\n", 2**-20, (" x", 0.9), rank=7), score("84", 0.9, ("84", 0.9), kind="output"),
    ]))  # fmt: skip
    assert {tag for tag, _ in read.tags} == {"div", "span", "code"}
    assert all(set(attributes) <= {"class", "style", "tabindex", "title"} for _, attributes in read.tags)
    assert read.words.count(hostile) == 1 and hostile.replace(" ", "␣") in read.words
    assert "c↵\n" in read.words and "␣x" in read.words
    assert "probability 100.0%, 0.00 bits" in read.words
    assert "probability 25.0%, 2.00 bits, choice 1" in read.words and "20.00 bits, choice 7" in read.words
    shades = [attributes["style"] for _, attributes in read.tags if "background" in (attributes.get("style") or "")]
    assert [style.split(", ")[-1] for style in shades] == ["0.000)", "0.130)", "0.650)"]
    came = [attributes for _, attributes in read.tags if "vnc-came" in (attributes.get("class") or "")]
    assert len(came) == 3  # c itself is shown although it is not among the likeliest


def test_shade() -> None:
    assert shade(0) == 0 and shade(5) == pytest.approx(0.325) and shade(math.inf) == shade(10) == pytest.approx(0.65)


def test_summary_counts_what_the_model_said() -> None:
    scores = [score("a", 0.5), score("b", 0.125, rank=3), score("84", 0.001, kind="output")]
    assert summary(scores) == "2 tokens, 4.0 bits in all, 2.00 bits a token; 50% were the likeliest"
    assert summary(scores[2:]) == "nothing was said"
    assert "the first 1,000 are shown" in summary(scores[:1] * 1500)
    assert len([1 for tag, attributes in Reading(token_html(scores[:1] * 1500)).tags
                if attributes.get("class") == "vnc-token"]) == SHOWN  # fmt: skip


def test_a_token_without_any_chance() -> None:
    never = score("x", 0.0, ("y", 1.0), rank=300)
    assert never.bits == math.inf and "∞ bits" in Reading(token_html([never])).words


def test_answers_by_heart_are_in_the_vocabulary(engine: Engine) -> None:
    for pieces in ANSWERS.values():
        for piece in pieces:
            assert engine.tokenizer.decode(engine.tokenizer.encode(piece.text)) == piece.text
