"""GPT-2's vocabulary as it lies beside its weights: vocab.json and merges.txt, or all in one tokenizer.json.

Both spell byte strings in an alphabet of 256 visible characters, one for each byte. Ids 0 to 255 are the single bytes,
id 256 + i is what merge i makes, and the last is <|endoftext|>: so the byte strings in the order of their ids are all
that `Tokenizer` needs. A vocabulary that is built in another way is refused, since its text would be cut differently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnc.errors import UserError
from vnc.tokenizer import GPT2_BOS, GPT2_PATTERN, SPECIAL_TOKENS, Tokenizer

VOCAB_FILE, MERGES_FILE, TOKENIZER_FILE = "vocab.json", "merges.txt", "tokenizer.json"

VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that stand for themselves as Latin-1 characters; the others, in order, are U+0100 and what follows."""
BYTE_OF = {chr(byte): byte for byte in VISIBLE} | {
    chr(0x100 + place): byte for place, byte in enumerate(byte for byte in range(256) if byte not in VISIBLE)
}


def read_vocabulary(folder: Path) -> tuple[Tokenizer, str]:
    """The tokenizer in a folder of GPT-2, and in words where it was found.

    Where the folder has none, it is the vocabulary named gpt2. Raises UserError for one that is broken or not GPT-2's
    kind.
    """
    if (folder / VOCAB_FILE).is_file() and (folder / MERGES_FILE).is_file():
        ids, merges = read_object(folder / VOCAB_FILE), _read_merges(folder / MERGES_FILE)
        return _make(folder / VOCAB_FILE, ids, merges), f"{VOCAB_FILE} and {MERGES_FILE}"
    if (path := folder / TOKENIZER_FILE).is_file():
        return _make(path, *_parts(path, read_object(path))), TOKENIZER_FILE
    return Tokenizer.load("gpt2"), 'the vocabulary "gpt2", since the folder holds none'


def token_list(ids: Mapping[str, int], merges: Sequence[Sequence[str]]) -> list[bytes]:
    """Byte strings in the order of their ids, without <|endoftext|>. Raises ValueError unless the vocabulary is built
    as GPT-2's is: 256 bytes, then one token for each merge in its order, then <|endoftext|>."""
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError(f"its ids are not 0 to {len(ids) - 1}, each once")
    names = sorted(ids, key=ids.__getitem__)
    if not names or names[-1] != GPT2_BOS:
        raise ValueError(f"its last token is not {GPT2_BOS}")
    tokens = [_bytes(name) for name in names[:-1]]
    if sorted(tokens[:256]) != [bytes([byte]) for byte in range(256)]:
        raise ValueError("its first 256 tokens are not the 256 bytes")
    if len(tokens) != 256 + len(merges):
        raise ValueError(f"it has {len(tokens) - 256} tokens of several bytes and {len(merges)} merges")
    for number, (token, pair) in enumerate(zip(tokens[256:], merges, strict=True)):
        if token != _bytes("".join(pair)):
            raise ValueError(f"token {256 + number} is not what merge {number} ({' + '.join(pair)}) makes")
    return tokens


def _bytes(name: str) -> bytes:
    try:
        return bytes(BYTE_OF[character] for character in name)
    except KeyError as error:
        raise ValueError(f"token {name!r}: {error} stands for no byte") from None


def _make(path: Path, ids: dict[str, Any], merges: Sequence[Sequence[str]]) -> Tokenizer:
    try:
        if not all(type(number) is int for number in ids.values()):
            raise ValueError("it is not a table of tokens and their ids")
        return Tokenizer(token_list(ids, merges), GPT2_PATTERN, (GPT2_BOS, *SPECIAL_TOKENS[1:]))
    except ValueError as error:
        raise UserError(
            f"{path}: not a vocabulary of GPT-2's kind: {error}; use the files of the model itself"
        ) from None


def _parts(path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], list[list[str]]]:
    """(ids by token, merges) of a tokenizer.json that cuts text as GPT-2 does."""
    try:
        model, cut = content["model"], content["pre_tokenizer"]
        expected = {"type": "ByteLevel", "add_prefix_space": False}
        found = {key: cut[key] for key in expected}
        if model["type"] != "BPE" or found != expected or content.get("normalizer") is not None:
            raise UserError(f"{path}: cuts text in another way than GPT-2 does; use the tokenizer of a GPT-2 model")
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        # Older files write a merge as one string, newer ones as a list of its two parts.
        merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
        return {**model["vocab"], **added}, merges
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a whole tokenizer file ({type(error).__name__}: {error}); get it again") from None


def _read_merges(path: Path) -> list[list[str]]:
    lines = [line for line in _read_text(path).split("\n") if line and not line.startswith("#version")]
    for line in lines:
        if line.count(" ") != 1:
            raise UserError(f"{path}: {line!r} is not a pair of tokens; get the file again")
    return [line.split(" ") for line in lines]


def read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); get the file again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; get the file again")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); get the file again") from None
