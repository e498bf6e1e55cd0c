"""Encoding against Hugging Face's splitter and BPE and against the definition of BPE, decoding against UTF-8's."""

import argparse
import inspect
import itertools
import random
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import example, given, settings

import vnc.tokenizer
from vnc.errors import UserError
from vnc.tokenizer import GPT2_PATTERN, PATTERN, SPECIAL_TOKENS, StreamDecoder, Tokenizer
from vnc.tokenizer_train import _byte_of_character

ROOT = Path(vnc.tokenizer.__file__).resolve().parents[1]
SENTENCES = inspect.getsource(argparse).split("\n\n")  # some 80 kB of English and code that every Python carries
PROMPTS = [
    "It's 1234 o'clock;  DON'T",
    "naïve Ωμέγα 東京 🦊🏽 नमस्ते",
    "\tif x:\r\n\r\n    y = [1,22,333]\n\n\n",
    "\u017f \u212a '\u017f '\u212a ½ ٣٤٥",
]

# Characters on which two regex engines may disagree: apostrophes and the letters that case-fold to s and k, digits of
# other scripts, marks, joiners, every kind of white space and line end, the ends of the Unicode range.
NASTY = (
    "'\u2019sStTlLvVeErRmMdD\u017f\u212a aé東ß\u0130\u0131\u01c5"
    "19½٣Ⅷ²\u0301\u200d\u200b🦊🏽.,<|>[_\x00\ud7ff\U0010ffff"
    " \t\r\n\v\x1c\u0085\u00a0\u180e\u2028\u2029\u3000"
)
nasty_text = st.text(st.sampled_from(NASTY), max_size=40) | st.text(max_size=40)


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return Tokenizer.train(SENTENCES, 1_000)


def split(text: str) -> list[str]:
    """The pieces of the text by PATTERN, as Hugging Face's regex engine (Oniguruma) sees it."""
    splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def merge_slowly(piece: bytes, rank: dict[bytes, int]) -> list[bytes]:
    """BPE by its definition: as long as two neighbours make a token, join the two (first of them) of lowest rank."""
    parts = [bytes([byte]) for byte in piece]
    while True:
        joins = [(rank[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in rank]
        if not joins:
            return parts
        i = min(joins)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def encode_slowly(text: str, tokenizer: Tokenizer) -> list[int]:
    rank = {token: i for i, token in enumerate(all_tokens(tokenizer))}
    return [rank[part] for piece in split(text) for part in merge_slowly(piece.encode(), rank)]


def all_tokens(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.decode_bytes([i]) for i in range(tokenizer.bos_id)]


# --- splitting and encoding


@pytest.mark.parametrize("kind", [r"\p{L}", r"\p{N}", r"\s"])
def test_both_regex_engines_know_the_same_characters(kind: str) -> None:
    everything = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    single_bytes = {bytes([i]): i for i in range(256)}
    # tiktoken drops what the pattern does not match, so what comes back are the characters of this kind
    by_tiktoken = tiktoken.Encoding("kind", pat_str=kind, mergeable_ranks=single_bytes, special_tokens={})
    kept = by_tiktoken.decode(by_tiktoken.encode_ordinary(everything))
    splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(kind), "removed", invert=True)
    assert kept == "".join(piece for piece, _ in splitter.pre_tokenize_str(everything))
    assert len(kept) > 20


@pytest.fixture(scope="module")
def greedy() -> Tokenizer:
    """Every character of NASTY is a token and so is every pair: wherever tiktoken splits otherwise, the ids differ."""
    single_bytes = [bytes([i]) for i in range(256)]
    characters = [character.encode() for character in NASTY]
    prefixes = [character[:n] for character in characters for n in range(2, len(character) + 1)]
    pairs = [a + b for a in characters for b in characters]
    return Tokenizer(list(dict.fromkeys(single_bytes + prefixes + pairs)), PATTERN)


@given(text=nasty_text)
@settings(max_examples=400, deadline=None)
@example(text="I'LL'\u017fx don\u2019t''s")
@example(text="  \n \n\n  a \u2028b\r\n\r\n")
@example(text="12345 ٣٤٥ x½²Ⅷ")
def test_pieces_are_those_of_the_other_engine(text: str, greedy: Tokenizer) -> None:
    assert greedy.encode(text) == encode_slowly(text, greedy)


def test_the_pattern_splits_as_meant() -> None:
    assert split("I'll pay $1,234.50") == ["I", "'ll", " pay", " $", "1", ",", "23", "4", ".", "50"]
    assert split("WE'VE (seen) it!\n\n  now") == ["WE", "'VE", " (", "seen", ")", " it", "!\n\n", " ", " now"]
    assert split("a  \n \n b") == ["a", "  \n \n", " b"]
    assert split("'\u017fa '\u212a") == ["'\u017fa", " '", "\u212a"]  # a long s ends no English word


@pytest.mark.parametrize("text", PROMPTS)
def test_encodes_as_the_definition_says(text: str, own: Tokenizer) -> None:
    assert own.encode(text) == encode_slowly(text, own)


def test_encodes_as_hugging_face_does(own: Tokenizer) -> None:
    """The same vocabulary in `tokenizers`, whose BPE applies listed merges instead of looking up ranks."""
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    character = {byte: name for name, byte in _byte_of_character().items()}

    def spell(token: bytes) -> str:
        return "".join(character[byte] for byte in token)

    tokens = all_tokens(own)
    rank = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token in tokens[256:]:
        earlier = {other: i for other, i in rank.items() if i < rank[token]}
        first, second = merge_slowly(token, earlier)
        merges.append((spell(first), spell(second)))
    other = tokenizers.Tokenizer(tokenizers.models.BPE({spell(token): i for token, i in rank.items()}, merges))
    pattern = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    other.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([pattern, byte_level])
    texts = [*SENTENCES, *PROMPTS]
    assert own.encode_batch(texts) == [encoding.ids for encoding in other.encode_batch(texts)]


@given(text=st.text(max_size=60))
@settings(deadline=None)
def test_text_survives_the_round_trip(text: str, own: Tokenizer) -> None:
    assert own.decode(own.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [("a\ud800b", "a\ufffdb"), ("\udfff", "\ufffd"), ("\ud83e\udd8a!", "🦊!")],
    ids=["lone", "low", "pair"],
)
def test_surrogates(text: str, read: str, own: Tokenizer) -> None:
    assert own.decode(own.encode(text)) == read
    assert own.encode_batch([text, "x"]) == [own.encode(read), own.encode("x")]


def test_text_never_becomes_a_special(own: Tokenizer) -> None:
    text = "".join(SPECIAL_TOKENS) + "<|endoftext|>"
    ids = own.encode(text)
    assert not set(ids) & set(own.special_ids)
    assert own.encode_batch([text]) == [ids]
    assert own.decode(ids) == text


def test_batch_equals_one_by_one(own: Tokenizer) -> None:
    texts = [*PROMPTS, "", *SENTENCES, "word " * 200_000]
    assert own.encode_batch(texts) == [own.encode(text) for text in texts]
    assert own.encode_batch(texts, num_threads=3) == own.encode_batch(texts, num_threads=1)
    assert own.encode_batch([]) == []
    for text in texts:
        array = own.encode_to_array(text)
        assert array.dtype == np.uint32 and array.tolist() == own.encode(text)


def test_chunks_do_not_change_the_ids(own: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpt2s_rules = Tokenizer(all_tokens(own), GPT2_PATTERN)
    for text in ("\n\n".join(SENTENCES), "".join(random.Random(1).choices(NASTY + " " * 20, k=20_000))):
        for tokenizer in (own, with_gpt2s_rules):
            whole = tokenizer.encode(text)
            with monkeypatch.context() as patch:
                patch.setattr(vnc.tokenizer, "CHUNK", 500)
                chunks = list(vnc.tokenizer._chunks(text))
                assert len(chunks) >= len(text) // 1_000
                assert max(map(len, chunks)) <= 1_000
                assert tokenizer.encode(text) == whole
                assert tokenizer.encode_batch([text]) == [whole]


@pytest.mark.parametrize("unit", [" ", "\n", "\u00a0", "ab"])
def test_a_million_characters_without_a_break(unit: str, own: Tokenizer) -> None:
    """White space of this length makes tiktoken's regex engine overflow its stack and panic."""
    text = unit * (1_200_000 // len(unit)) + "x"
    assert own.decode(own.encode(text)) == text


# --- decoding


@pytest.mark.parametrize("bad", [-1, 1_000, 10**12])
def test_ids_outside_the_vocabulary_are_named(bad: int, own: Tokenizer) -> None:
    for decode in (own.decode, own.decode_bytes, lambda ids: [StreamDecoder(own).feed(i) for i in ids]):
        with pytest.raises(UserError, match=rf"token id {bad}: outside the vocabulary, whose ids are 0 to 999"):
            decode([0, bad])


def test_decodes_numpy_ids_and_broken_utf8(own: Tokenizer) -> None:
    ids = own.encode("🦊")
    assert own.decode(np.array(ids, dtype=np.int32)) == "🦊"
    assert own.decode([*ids[:-1], own.bos_id]) == "\ufffd<|bos|>"
    assert own.decode_bytes([255, 0]) == b"\xff\x00"


@given(ids=st.lists(st.integers(0, 999) | st.integers(128, 255), max_size=40))
@settings(deadline=None)
def test_stream_equals_decoding_at_once(ids: list[int], own: Tokenizer) -> None:
    stream = StreamDecoder(own)
    for _ in range(2):  # the second time round: flush leaves nothing behind
        assert "".join(map(stream.feed, ids)) + stream.flush() == own.decode(ids)


@given(text=st.text(st.characters(exclude_characters="\ufffd"), max_size=40))
@settings(deadline=None)
def test_stream_yields_whole_characters_as_soon_as_it_can(text: str, own: Tokenizer) -> None:
    stream, ids = StreamDecoder(own), own.encode(text)
    for i, token in enumerate(ids):
        seen = own.decode_bytes(ids[:i]).decode("utf-8", "ignore")
        assert seen + stream.feed(token) == own.decode_bytes(ids[: i + 1]).decode("utf-8", "ignore")
    assert stream.flush() == ""


def test_stream_replaces_only_what_can_never_be_valid(own: Tokenizer) -> None:
    stream = StreamDecoder(own)
    assert [stream.feed(byte) for byte in (0xF0, 0x9F, 0x41)] == ["", "", "\ufffdA"]
    assert [stream.feed(byte) for byte in (0xFF, 0xE6)] == ["\ufffd", ""]
    assert [stream.flush(), stream.flush()] == ["\ufffd", ""]


def test_token_bytes_count_the_text(own: Tokenizer) -> None:
    lengths = own.token_bytes
    assert lengths.shape == (1_000,) and lengths.dtype == np.int32
    for text in PROMPTS:
        assert lengths[own.encode(text)].sum() == len(text.encode())
    assert [lengths[own.special(name)] for name in SPECIAL_TOKENS] == [0] * 7
