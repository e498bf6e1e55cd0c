"""GPT-2's vocabulary against tiktoken's, and tokenizer files: whole, broken, foreign, absent, half written."""

import argparse
import hashlib
import inspect
import json
import os
import pickle
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
import tiktoken
from hypothesis import given, settings

import vnc.tokenizer
from vnc.errors import UserError
from vnc.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer

ROOT = Path(vnc.tokenizer.__file__).resolve().parents[1]
SENTENCES = inspect.getsource(argparse).split("\n\n")  # some 80 kB of English and code that every Python carries
TEXTS = [*SENTENCES[:50], "naïve 東京 🦊🏽  \n\n12345 DON'T"]


@pytest.fixture(scope="module")
def own() -> Tokenizer:
    return Tokenizer.train(SENTENCES, 1_000)


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> Tokenizer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared_data / "tiktoken_cache"))
        return Tokenizer.load("gpt2")


def all_tokens(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.decode_bytes([i]) for i in range(tokenizer.bos_id)]


# --- GPT-2


def test_gpt2_known_ids(gpt2: Tokenizer) -> None:
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]  # from tiktoken's documentation
    assert gpt2.vocab_size == 50_263
    assert gpt2.bos_id == gpt2.special("<|bos|>") == gpt2.special("<|endoftext|>") == 50_256
    assert [gpt2.special(name) for name in SPECIAL_TOKENS[1:]] == list(range(50_257, 50_263))
    assert gpt2.decode([50_256, 31373, 50_258]) == "<|endoftext|>hello<|im_end|>"


def test_gpt2_fingerprint_is_over_tiktokens_table(gpt2: Tokenizer) -> None:
    """Pattern, specials, tokens in order of rank, each preceded by its length in four bytes."""
    encoding = tiktoken.get_encoding("gpt2")
    names = ["<|endoftext|>", *SPECIAL_TOKENS[1:]]
    tokens = [encoding.decode_single_token_bytes(i) for i in range(50_256)]
    digest = hashlib.sha256()
    for part in [vnc.tokenizer.GPT2_PATTERN.encode(), *(name.encode() for name in names), *tokens]:
        digest.update(len(part).to_bytes(4, "little") + part)
    assert gpt2.fingerprint == digest.hexdigest()


@given(text=st.text(st.sampled_from("'sS tT\n\r\u00a0\u2028é東🦊19½.,<|>") | st.characters(codec="utf-8"), max_size=60))
@settings(deadline=None)
def test_gpt2_equals_tiktoken(text: str, gpt2: Tokenizer) -> None:
    assert gpt2.encode(text) == tiktoken.get_encoding("gpt2").encode_ordinary(text)


def test_gpt2_saved_needs_no_network(gpt2: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt2.save(tmp_path)
    monkeypatch.setattr(tiktoken, "get_encoding", None)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.fingerprint == gpt2.fingerprint
    assert [loaded.encode(text) for text in TEXTS] == [gpt2.encode(text) for text in TEXTS]
    assert loaded.special("<|bos|>") == 50_256


def test_gpt2_without_network_or_cache(tmp_path: Path) -> None:
    """A fresh process, so that no vocabulary is in memory; its proxy is a port where nobody listens."""
    code = """
        import vnc.errors, vnc.tokenizer
        try:
            vnc.tokenizer.Tokenizer.load("gpt2")
        except vnc.errors.UserError as error:
            print(error)
    """
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = os.environ | dead | {"TIKTOKEN_CACHE_DIR": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    message = run_python(code, environment)
    assert "could not be downloaded (ProxyError)" in message
    assert "TIKTOKEN_CACHE_DIR" in message and "vnc tokenizer train" in message and message.count("\n") == 1


def test_gpt2_on_a_network_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: time.sleep(5))
    monkeypatch.setattr(vnc.tokenizer, "DOWNLOAD_LIMIT", 0.05)
    with pytest.raises(UserError, match="no answer within"):
        Tokenizer.load("gpt2")


# --- files


def test_saved_and_loaded_is_the_same(own: Tokenizer, tmp_path: Path) -> None:
    own.save(tmp_path / "new" / "folder")
    for path in (tmp_path / "new" / "folder", str(tmp_path / "new/folder/tokenizer.json")):
        loaded = Tokenizer.load(path)
        assert loaded.fingerprint == own.fingerprint
        assert all_tokens(loaded) == all_tokens(own)
        assert [loaded.encode(text) for text in SENTENCES] == [own.encode(text) for text in SENTENCES]
    loaded.save(tmp_path / "again")
    first, second = (tmp_path / name / "tokenizer.json" for name in ("new/folder", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert os.listdir(tmp_path / "again") == ["tokenizer.json"]


def test_fingerprint_is_the_vocabularys_identity(own: Tokenizer) -> None:
    tokens = all_tokens(own)
    swapped = [*tokens[:-2], tokens[-1], tokens[-2]]
    glued = [*tokens[:-2], tokens[-2] + tokens[-1][:1], tokens[-1][1:] or b"\x00\x00"]
    others = [
        Tokenizer(tokens[:-1], PATTERN),
        Tokenizer(swapped, PATTERN),
        Tokenizer(glued, PATTERN),
        Tokenizer(tokens, PATTERN + "|x"),
        Tokenizer(tokens, PATTERN, ("<|endoftext|>", *SPECIAL_TOKENS[1:])),
    ]
    prints = {tokenizer.fingerprint for tokenizer in [own, *others]}
    assert len(prints) == 6 and all(len(each) == 64 for each in prints)
    assert Tokenizer(tokens, PATTERN).fingerprint == own.fingerprint
    assert pickle.loads(pickle.dumps(own)).fingerprint == own.fingerprint


SINGLE = [bytes([i]) for i in range(256)]


@pytest.mark.parametrize("tokens", [SINGLE[1:], [*SINGLE[1:], b"ab"], [*SINGLE, b"ab", b"ab"], [*SINGLE, b""]])
def test_tokens_must_be_distinct_and_cover_every_byte(tokens: list[bytes]) -> None:
    with pytest.raises(ValueError, match="tokens must be distinct"):
        Tokenizer(tokens, PATTERN)


@pytest.mark.parametrize("specials", [(), SPECIAL_TOKENS[:-1], (*SPECIAL_TOKENS, "<|x|>"), SPECIAL_TOKENS[::-1]])
def test_specials_are_the_formats(specials: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="specials must be"):
        Tokenizer(SINGLE, PATTERN, specials)


def broken_files(good: bytes) -> dict[str, bytes]:
    data = json.loads(good)

    def changed(**values: object) -> bytes:
        return json.dumps(data | values).encode()

    without_a = [token for token in data["tokens"] if token != "a"]
    return {
        **{f"cut after {n} bytes": good[:n] for n in (0, 1, 40, len(good) // 2, len(good) - 3)},
        "a list": b"[]",
        "another program's": b'{"version": "1.0", "model": {"type": "BPE"}}',
        "no text": b"\xff\xfe\x00",
        "newer format": changed(version=2),
        "no pattern": json.dumps({k: v for k, v in data.items() if k != "pattern"}).encode(),
        "broken pattern": changed(pattern="("),
        "pattern of another type": changed(pattern=3),
        "a byte missing": changed(tokens=without_a),
        "a token twice": changed(tokens=[*data["tokens"], data["tokens"][-1]]),
        "a token changed": changed(tokens=[*data["tokens"][:-1], "changed"]),
        "no byte values": changed(tokens=[*data["tokens"][:-1], [300]]),
        "a number for a token": changed(tokens=[*data["tokens"][:-1], 10**15]),
        "lone surrogate": changed(tokens=[*data["tokens"][:-1], "\ud800"]),
        "specials missing": changed(specials=data["specials"][:-1]),
        "specials of another type": changed(specials=[1, *data["specials"][1:]]),
        "no fingerprint": changed(fingerprint=None),
    }


def test_broken_and_foreign_files(own: Tokenizer, tmp_path: Path) -> None:
    own.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    for what, content in broken_files(file.read_bytes()).items():
        file.write_bytes(content)
        with pytest.raises(UserError, match="not a whole tokenizer file of vnc") as caught:
            Tokenizer.load(tmp_path)
            pytest.fail(f"loaded: {what}")
        assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value), what


@pytest.mark.parametrize("path", ["", "absent", "absent/tokenizer.json", "gpt3"])
def test_nothing_there(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer there.*vnc tokenizer train"):
        Tokenizer.load(tmp_path / path)


def test_a_full_disk_leaves_the_old_file(own: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    own.save(tmp_path)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"tokenizer\.json: cannot write the tokenizer \(No space left"):
        Tokenizer.train(SENTENCES, 300).save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == own.fingerprint
    assert os.listdir(tmp_path) == ["tokenizer.json"]
    with pytest.raises(UserError, match="cannot write"):
        own.save(tmp_path / "tokenizer.json" / "below a file")


def test_starts_without_torch_or_tokenizers() -> None:
    code = "import sys, vnc.tokenizer, vnc.conversation; print({'torch', 'tokenizers'} & set(sys.modules))"
    assert run_python(code, dict(os.environ)) == "set()\n"


def run_python(code: str, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
