"""Text <-> token ids. tiktoken does the encoding, with GPT-2's vocabulary or with one learnt from your own text.

A vocabulary is three things: a regular expression that cuts text into pieces, the byte strings that a piece is merged
into, in order of rank, and the special tokens. Ids are ranks; the specials come last. Text is only ever encoded as
text: no document, however it is written, can produce a special token.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from vnc.errors import UserError

SPECIAL_TOKENS = (
    "<|bos|>",  # starts every document and every conversation
    "<|im_start|>",  # a message: role, new line, content
    "<|im_end|>",
    "<|tool_start|>",  # what the assistant asks a tool
    "<|tool_end|>",
    "<|output_start|>",  # what the tool answers
    "<|output_end|>",
)

PATTERN = "|".join(
    (
        r"'(?:[sStTmMdD]|[lL][lL]|[vV][eE]|[rR][eE])",  # English endings: 's 't 'm 'd 'll 've 're
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word with what leads it: a space, a quote, a bracket
        r"\p{N}{1,2}",  # numbers by one or two digits: small vocabularies have no room for a thousand triples
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation, with the line end that often follows
        r"\s*[\r\n]",  # white space up to the last line end in it
        r"\s+(?!\S)",  # white space but for its last character, which leads the next word
        r"\s+",
    )
)
"""How our own vocabularies split text: GPT-4's rules (cl100k_base in tiktoken), but with numbers of 1-2 digits."""

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""GPT-2's rules, in the faster spelling of tiktoken's r50k_base. Written here and not taken from tiktoken because it is
part of the fingerprint, which must not change when tiktoken finds a faster one yet."""

GPT2_BOS = "<|endoftext|>"
FILE_NAME = "tokenizer.json"
FORMAT = {"format": "vnc-tokenizer", "version": 1}
DOWNLOAD_LIMIT = 30.0  # seconds for GPT-2's two files (1.5 MB); tiktoken itself sets none and may hang for minutes
CHUNK = 200_000  # characters; tiktoken's regex engine panics on white space of about a million characters

_chunk_end = re.compile(r"(?<=\S) ")


class Tokenizer:
    """An immutable vocabulary with its encoder. Ids run from 0 to vocab_size - 1."""

    def __init__(self, tokens: Sequence[bytes], pattern: str, specials: Sequence[str] = SPECIAL_TOKENS) -> None:
        """tokens: distinct byte strings in rank order, the 256 single bytes among them. specials: the names that
        SPECIAL_TOKENS has in this vocabulary, in the same order. Raises ValueError where these are not met."""
        singles = sum(len(token) == 1 for token in tokens)
        if len(set(tokens)) != len(tokens) or singles != 256 or b"" in tokens:
            raise ValueError(f"tokens must be distinct and hold each of the 256 bytes, found {singles} of them")
        if tuple(specials[1:]) != SPECIAL_TOKENS[1:]:
            raise ValueError(f"specials must be {', '.join(SPECIAL_TOKENS)}, found {', '.join(specials)}")
        self._tokens = tuple(tokens)
        self._pattern = pattern
        self._specials = tuple(specials)
        special_ids = {name: len(tokens) + index for index, name in enumerate(specials)}
        self._special_id = dict(zip(SPECIAL_TOKENS, special_ids.values(), strict=True)) | special_ids
        self._encoding = tiktoken.Encoding(
            "vnc",
            pat_str=pattern,
            mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
            special_tokens=special_ids,
        )
        self._fingerprint = _fingerprint(self._tokens, pattern, self._specials)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Tokenizer:
        """Opens the vocabulary named "gpt2", or a folder that holds tokenizer.json, or such a file. Raises UserError
        where there is none, or where the file is broken or foreign."""
        if name_or_path == "gpt2":
            return cls(_gpt2_tokens(), GPT2_PATTERN, (GPT2_BOS, *SPECIAL_TOKENS[1:]))
        path = Path(name_or_path)
        return _read(path / FILE_NAME if path.is_dir() else path)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learns a vocabulary of `vocab_size` ids, the 256 bytes and the specials included, by byte-pair encoding.

        The same texts always give the same vocabulary. Raises UserError for a vocab_size without room for a single
        merge, and for texts that hold too few repeated pairs to fill it.
        """
        smallest = 256 + len(SPECIAL_TOKENS) + 1
        if vocab_size < smallest:
            raise UserError(f"vocab_size={vocab_size}: at least {smallest} (256 bytes, 7 specials and one merge)")
        from vnc.tokenizer_train import learn_tokens  # `tokenizers` is needed to learn a vocabulary, never to use one

        tokens = learn_tokens(texts, vocab_size - len(SPECIAL_TOKENS), PATTERN)
        possible = len(tokens) + len(SPECIAL_TOKENS)
        if possible < vocab_size:
            raise UserError(
                f"vocab_size={vocab_size}: the text is enough for {possible} only; ask for fewer or give more text"
            )
        return cls(tokens, PATTERN)

    def save(self, folder: str | Path) -> None:
        """Writes folder/tokenizer.json, made if need be: beside its place, flushed, then renamed, so that a reader
        finds the old file or the new one. Raises UserError where the folder cannot be written."""
        path = Path(folder) / FILE_NAME
        aside = path.with_name(f".{FILE_NAME}.{os.getpid()}.{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with aside.open("w", encoding="utf-8", newline="\n") as file:
                    file.write(_to_json(self))
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot write the tokenizer ({error.strerror}); choose another folder") from error

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint[:12]})"

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return len(self._tokens) + len(self._specials)

    @property
    def bos_id(self) -> int:
        """The id of <|bos|>; in GPT-2's vocabulary <|endoftext|> plays its part."""
        return len(self._tokens)

    @property
    def special_ids(self) -> range:
        """The ids of the special tokens, which are the last of the vocabulary."""
        return range(len(self._tokens), self.vocab_size)

    def special(self, name: str) -> int:
        """The id of a special token, by its name in SPECIAL_TOKENS or in this vocabulary (<|endoftext|>).
        Raises KeyError for any other name."""
        return self._special_id[name]

    @property
    def fingerprint(self) -> str:
        """The vocabulary's identity, 64 hex digits: SHA-256 over pattern, tokens and specials."""
        return self._fingerprint

    @property
    def token_bytes(self) -> np.ndarray:
        """(vocab_size,) int32: how many bytes of text each id stands for, 0 for the specials."""
        lengths = np.zeros(self.vocab_size, dtype=np.int32)
        lengths[: len(self._tokens)] = [len(token) for token in self._tokens]
        return lengths

    def encode(self, text: str) -> list[int]:
        """Ids of the text. What looks like a special token is text like any other; surrogates without a partner,
        which have no UTF-8, become U+FFFD. tiktoken is given long texts in chunks; the ids are the same (but see
        `_chunks`)."""
        return [*chain.from_iterable(map(self._encoding.encode_ordinary, _chunks(text)))]

    def encode_to_array(self, text: str) -> np.ndarray:
        """`encode` without Python numbers: uint32 (tokens,). Lets other threads run meanwhile."""
        parts = [self._encoding.encode_to_numpy(chunk, disallowed_special=()) for chunk in _chunks(text)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        """`encode` for many texts on tiktoken's threads, which run without the GIL (default: one a core, at most 8)."""
        chunks = [list(_chunks(text)) for text in texts]
        threads = num_threads or min(8, os.cpu_count() or 1)
        encoded = iter(self._encoding.encode_ordinary_batch([*chain.from_iterable(chunks)], num_threads=threads))
        return [next(encoded) if len(each) == 1 else [*chain(*islice(encoded, len(each)))] for each in chunks]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, specials by name; bytes that are not UTF-8 become U+FFFD. Raises UserError for an id
        outside the vocabulary."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids, specials by name. Raises UserError for an id outside the vocabulary."""
        checked = [int(token) for token in ids]
        for token in checked:
            if not 0 <= token < self.vocab_size:
                raise UserError(f"token id {token}: outside the vocabulary, whose ids are 0 to {self.vocab_size - 1}")
        return self._encoding.decode_bytes(checked)


class StreamDecoder:
    """Decodes one id at a time and yields whole characters only. All that `feed` and `flush` return, joined, is what
    `Tokenizer.decode` makes of the same ids at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The characters that this id completes, perhaps none. Bytes that no continuation can make valid come out as
        U+FFFD; those that may still become a character are kept back."""
        return self._utf8.decode(self._tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """Ends the text: U+FFFD for the kept-back start of a character, if any. The decoder can then be used again."""
        return self._utf8.decode(b"", final=True)


def _chunks(text: str) -> Iterator[str]:
    """The text in chunks of CHUNK to 2 CHUNK characters, cut before a space that follows a word: there both patterns
    split in any case, so the ids stay the same. A stretch of CHUNK characters without such a place is cut anyway."""
    start = 0
    while len(text) - start > 2 * CHUNK:
        cut = _chunk_end.search(text, start + CHUNK, start + 2 * CHUNK)
        end = cut.start() if cut else start + 2 * CHUNK
        yield text[start:end]
        start = end
    yield text[start:]


def _fingerprint(tokens: Sequence[bytes], pattern: str, specials: Sequence[str]) -> str:
    parts = [pattern.encode(), *(name.encode() for name in specials), *tokens]
    framed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hashlib.sha256(framed).hexdigest()


def _to_json(tokenizer: Tokenizer) -> str:
    """One token a line, in rank order: a string where its bytes are UTF-8, else the list of its byte values."""
    head = FORMAT | {
        "fingerprint": tokenizer.fingerprint,
        "pattern": tokenizer._pattern,
        "specials": tokenizer._specials,
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    tokens = ",\n".join(json.dumps(_legible(token), ensure_ascii=False) for token in tokenizer._tokens)
    return "{\n" + "".join(lines) + '"tokens": [\n' + tokens + "\n]\n}\n"


def _legible(token: bytes) -> str | list[int]:
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return list(token)


def _read(path: Path) -> Tokenizer:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f'{path}: no tokenizer there ({error.strerror}); give "gpt2", or a folder that `vnc tokenizer train` wrote'
        ) from error
    try:
        return _from_json(json.loads(content))
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: not a whole tokenizer file of vnc ({reason}); write it again") from error


def _from_json(data: Any) -> Tokenizer:
    """Raises ValueError, TypeError or KeyError for what `_to_json` cannot have written."""
    if not isinstance(data, dict) or {key: data.get(key) for key in FORMAT} != FORMAT:
        raise ValueError(f"the file does not begin with {FORMAT}")
    tokens = [token.encode() if isinstance(token, str) else bytes([*token]) for token in data["tokens"]]
    tokenizer = Tokenizer(tokens, data["pattern"], data["specials"])
    if tokenizer.fingerprint != data["fingerprint"]:
        raise ValueError(f"its content has fingerprint {tokenizer.fingerprint:.12}, not {data['fingerprint']:.12}")
    return tokenizer


def _gpt2_tokens() -> list[bytes]:
    """GPT-2's byte strings in rank order, from tiktoken's cache folder or from the network within DOWNLOAD_LIMIT."""
    ranks: list[dict[bytes, int]] = []
    reason = f"no answer within {DOWNLOAD_LIMIT:.0f} s"

    def fetch() -> None:
        nonlocal reason
        try:
            ranks.append(tiktoken.get_encoding("gpt2")._mergeable_ranks)
        except Exception as error:  # network, proxy, disk or a damaged file: the user is told which
            reason = type(error).__name__

    # tiktoken's download takes no time limit, so it runs on a thread that can be left behind
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_LIMIT)
    if not ranks:
        raise UserError(
            f"tokenizer gpt2: its vocabulary could not be downloaded ({reason}); set TIKTOKEN_CACHE_DIR to a folder "
            "that holds it, or train your own with `vnc tokenizer train`"
        )
    return sorted(ranks[0], key=ranks[0].__getitem__)
