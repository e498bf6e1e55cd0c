"""Learning a vocabulary against the definition of BPE training; what it depends on, and what it refuses."""

import argparse
import collections
import inspect
import itertools
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import tokenizers

import vnc.tokenizer
from vnc.errors import UserError
from vnc.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer
from vnc.tokenizer_train import LONG_RUN, _pieces, learn_tokens

ROOT = Path(vnc.tokenizer.__file__).resolve().parents[1]
SENTENCES = inspect.getsource(argparse).split("\n\n")  # some 80 kB of English and code that every Python carries


def split(text: str) -> list[str]:
    """The pieces of the text by PATTERN, as Hugging Face's regex engine (Oniguruma) sees it."""
    splitter = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


@pytest.mark.parametrize("seed", [0, 1, 112, 125])  # the last two run out of pairs
def test_learns_the_merges_of_the_definition(seed: int) -> None:
    """The most frequent pair at each step, counted afresh; equal counts go to the pair that has the lower ids, where
    the single bytes are numbered as `tokenizers` does: printable Latin-1 first, then the rest."""
    draw = random.Random(seed)
    syllables = ["".join(draw.choices("aeiou \n1.é東", k=draw.randint(1, 4))) for _ in range(40)]
    texts = ["".join(draw.choices(syllables, k=60)) for _ in range(40)]
    words = collections.Counter(piece.encode() for text in texts for piece in split(text))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = {bytes([byte]): i for i, byte in enumerate(dict.fromkeys([*printable, *range(256)]))}
    spelt = {word: [bytes([byte]) for byte in word] for word in words}
    learnt: list[bytes] = []
    while len(learnt) < 150:
        pairs: collections.Counter[tuple[bytes, bytes]] = collections.Counter()
        for word, parts in spelt.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], order[pair[0]], order[pair[1]]))
        if pairs[best] < 2:
            break
        if (token := best[0] + best[1]) not in order:
            order[token] = len(order)
            learnt.append(token)
        for parts in spelt.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [parts[i] + parts[i + 1]]
                i += 1
    assert learn_tokens(texts, 256 + 150, PATTERN) == [bytes([i]) for i in range(256)] + learnt


def test_every_byte_is_its_own_id_and_sizes_are_exact() -> None:
    own = Tokenizer.train(SENTENCES, 1_000)
    assert own.decode_bytes(range(256)) == bytes(range(256))
    assert own.vocab_size == 1_000 and own.bos_id == 993
    assert [own.special(name) for name in SPECIAL_TOKENS] == list(range(993, 1_000)) == list(own.special_ids)
    with pytest.raises(KeyError):
        own.special("<|endoftext|>")


def test_training_depends_on_nothing_but_the_text(tmp_path: Path) -> None:
    code = """
        import argparse, inspect, sys, vnc.tokenizer
        texts = inspect.getsource(argparse).split("\\n\\n")
        vnc.tokenizer.Tokenizer.train(texts, 2_000).save(sys.argv[1])
    """
    files = []
    for seed, threads in (("1", "1"), ("2", "4"), ("3", "2")):
        folder = tmp_path / seed
        run_python(code, os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}, str(folder))
        files.append((folder / "tokenizer.json").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("size", [-1, 0, 256, 263])
def test_vocab_size_without_room(size: int) -> None:
    with pytest.raises(UserError, match=rf"vocab_size={size}: at least 264"):
        Tokenizer.train(["aa aa"], size)


def test_too_little_text_says_how_many_are_possible() -> None:
    text = ["the cat and the dog and the hen"]
    with pytest.raises(UserError, match=r"vocab_size=300: the text is enough for (\d+) only") as caught:
        Tokenizer.train(text, 300)
    possible = int(str(caught.value).split("enough for ")[1].split()[0])
    assert 264 < possible < 300
    assert Tokenizer.train(text, possible).vocab_size == possible
    with pytest.raises(UserError, match=f"enough for {possible} only"):
        Tokenizer.train(text, possible + 1)
    with pytest.raises(UserError, match="enough for 263 only"):
        Tokenizer.train([], 300)


def test_texts_that_are_no_strings() -> None:
    with pytest.raises(UserError, match="text number 1 is NoneType"):
        Tokenizer.train(["a", None], 300)  # type: ignore[list-item]


@pytest.mark.parametrize("run", ["", "x" * 2_500, " " * 1_000, "x" * 999, "\n" * 1_001])
def test_long_runs_are_cut_and_nothing_is_lost(run: str) -> None:
    pieces = list(_pieces(["a b " + run + " c", run]))
    assert "".join(pieces) == "a b " + run + " c" + run
    for piece in pieces:
        assert all(len("".join(group)) <= LONG_RUN for _, group in itertools.groupby(piece, str.isspace))


def test_trains_on_surrogates_and_on_runs_without_a_break() -> None:
    """A run of 300,000 characters as one piece takes `tokenizers` half a minute, a million many minutes."""
    start = time.perf_counter()
    tokenizer = Tokenizer.train([" " * 300_000, "ab" * 150_000, "\ud800 the the", *SENTENCES], 600)
    assert tokenizer.vocab_size == 600
    assert time.perf_counter() - start < 10


def run_python(code: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
