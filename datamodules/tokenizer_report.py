"""`vnc tokenizer report`: how much text a token of a vocabulary stands for, beside GPT-2's vocabulary on the same text.

More bytes a token make a cheaper epoch and a longer view back, so the figure tells whether a vocabulary fits the text.
BOS is not counted.
"""

from __future__ import annotations

import codecs
import gzip
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

GPT2 = "gpt2"
STORIES = 2_000  # of TinyWorld, where no text is given
STORIES_BOOK = -1  # validation's, from which no vocabulary has been learnt
LONGEST = 5  # tokens shown


@dataclass(frozen=True)
class Source:
    """A named text."""

    name: str
    texts: Iterable[str]


@dataclass
class Tally:
    """What one vocabulary makes of the sources read so far."""

    tokenizer: Tokenizer
    tokens: dict[str, int] = field(default_factory=dict)
    """By source, BOS not counted."""
    seconds: float = 0.0
    """Spent on encoding, by one thread."""
    used: npt.NDArray[np.bool_] = field(init=False)
    """(vocab_size,): whether an id has occurred."""

    def __post_init__(self) -> None:
        self.used = np.zeros(self.tokenizer.vocab_size, dtype=np.bool_)

    def add(self, source: str, text: str) -> None:
        begun = time.perf_counter()
        ids = self.tokenizer.encode_to_array(text)
        self.seconds += time.perf_counter() - begun
        self.tokens[source] = self.tokens.get(source, 0) + len(ids)
        self.used[ids] = True

    def vocabulary(self) -> dict[str, Any]:
        """Size, share in use (special tokens are no text, so they are left out), speed, and the longest
        tokens in use that are not white space alone."""
        ordinary = self.tokenizer.bos_id  # the specials are the last ids
        in_use = np.flatnonzero(self.used)
        by_length = in_use[np.argsort(-self.tokenizer.token_bytes[in_use], kind="stable")]
        texts = (self.tokenizer.decode([token]) for token in by_length.tolist())
        return {
            "vocab_size": self.tokenizer.vocab_size,
            "in_use": len(in_use),
            "share_in_use": len(in_use) / ordinary,
            "longest": list(islice((text for text in texts if not text.isspace()), LONGEST)),
            "tokens_per_second": sum(self.tokens.values()) / max(self.seconds, 1e-9),
        }


def report(tokenizer: str, data: str | None = None, json: bool = False, max_bytes: int = 20_000_000) -> None:
    """Print how many bytes of text a token stands for, beside GPT-2's vocabulary.

    Args:
        tokenizer: Folder that `vnc tokenizer train` wrote, or several separated by commas.
        data: Files and folders, separated by commas, each a source of its own: .txt, .md, .jsonl, .csv and .parquet
            (column text). TinyWorld's stories when not given.
        json: Print JSON instead of tables.
        max_bytes: Text to read, in bytes of UTF-8, shared out evenly to the sources.
    """
    names = list(dict.fromkeys(part.strip() for part in tokenizer.split(",") if part.strip()))
    if not names:
        raise UserError("--tokenizer: names no folder; give one that `vnc tokenizer train` wrote")
    sources = find_sources(data)
    if max_bytes < len(sources):
        raise UserError(
            f"--max_bytes {max_bytes}: must be at least 1 for each source, of which there are {len(sources)}"
        )
    tallies = {name: Tally(Tokenizer.load(name)) for name in names}
    if GPT2 not in tallies:
        try:
            tallies[GPT2] = Tally(Tokenizer.load(GPT2))
        except UserError as error:
            print(f"without GPT-2 beside it: {error}", file=sys.stderr)
    result = compare(sources, tallies, max_bytes)
    if json:
        print(dumps(result, indent=2, ensure_ascii=False))
    else:
        _print_tables(result)


def compare(sources: Sequence[Source], tallies: dict[str, Tally], max_bytes: int) -> dict[str, Any]:
    """Encode up to max_bytes // sources bytes of each source with every vocabulary.

    Returns {"sources": {source: {"bytes", "tokenizers": {name: {"tokens", "bytes_per_token", and beside GPT-2's
    vocabulary "ratio" (of bytes per token to GPT-2's) and "tokens_saved" (share of GPT-2's tokens)}}}}, "total": the
    same of all sources together, "vocabularies": {name: see Tally.vocabulary}}. JSON-able. UserError for a source
    without text.
    """
    from datamodules.progress import Progress

    sizes: dict[str, int] = {}
    with Progress("encoding", max_bytes) as progress:
        for source in sources:
            sizes[source.name] = 0
            for text in within(source.texts, max_bytes // len(sources)):
                for tally in tallies.values():
                    tally.add(source.name, text)
                size = len(text.encode())
                sizes[source.name] += size
                progress.advance(size)
            if not sizes[source.name]:
                raise UserError(f"--data {source.name}: no text in it; name a file or folder that holds some")
    each = {name: _figures(size, {key: tally.tokens[name] for key, tally in tallies.items()})
            for name, size in sizes.items()}  # fmt: skip
    total = _figures(sum(sizes.values()), {key: sum(tally.tokens.values()) for key, tally in tallies.items()})
    vocabularies = {name: tally.vocabulary() for name, tally in tallies.items()}
    return {"sources": each, "total": total, "vocabularies": vocabularies}


def within(texts: Iterable[str], max_bytes: int) -> Iterator[str]:
    """The texts up to max_bytes bytes of UTF-8 in all; the last is cut, between characters."""
    left = max_bytes
    for text in texts:
        encoded = text.encode()
        if len(encoded) > left:
            text = encoded[:left].decode(errors="ignore")
        if text:
            yield text
        left -= len(encoded)
        if left <= 0:
            return


def find_sources(data: str | None) -> list[Source]:
    """The sources that `data` names; texts are read when they are asked for. UserError for what is not there, of an
    unknown kind, or given twice."""
    if data is None:
        return [Source("TinyWorld stories", _stories())]
    names = (
        [data] if data.strip() and Path(data).exists() else [part.strip() for part in data.split(",") if part.strip()]
    )
    if not names:
        raise UserError("--data: names no file or folder; leave it out for TinyWorld's stories")
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice is not None:
        raise UserError(f"--data: {twice} is given twice; name each once")
    return [Source(name, _texts(_files(Path(name)))) for name in names]


def _files(path: Path) -> list[Path]:
    from datamodules.prepare.source_files import ALL_KINDS, kind_of

    if not path.exists():
        raise UserError(f"--data {path}: no such file or folder")
    if not path.is_dir():
        if kind_of(path) not in ALL_KINDS:
            raise UserError(
                f"--data {path}: not one of the kinds that can be read ({', '.join(ALL_KINDS)}); convert it"
            )
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and kind_of(file) in ALL_KINDS
                   and not any(part.startswith(".") for part in file.relative_to(path).parts))  # fmt: skip
    if not files:
        raise UserError(f"--data {path}: no files of the kinds {', '.join(ALL_KINDS)} in it")
    return files


def _texts(files: Iterable[Path]) -> Iterator[str]:
    from datamodules.prepare.batches import HARMLESS, Format
    from datamodules.prepare.readers import read_file
    from datamodules.prepare.source_files import kind_of

    for file in files:
        if kind_of(file) in (".txt", ".md"):
            yield from _chunks(file)
            continue
        for batch in read_file(file, str(file), Format()):
            for problem in batch.problems:
                if problem.reason not in HARMLESS:
                    detail = f" ({problem.detail})" if problem.detail else ""
                    raise UserError(f"--data {problem.where}: {problem.reason}{detail}; mend or leave out the file")
            yield from batch.texts.to_pylist()


def _chunks(file: Path, size: int = 1 << 20) -> Iterator[str]:
    """A text file piece by piece, however long it is, so that no more of it is read than is wanted. A piece ends where
    a line does, if one does."""
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    waiting = ""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as opened:
            while chunk := opened.read(size):
                waiting += utf8.decode(chunk)
                end = waiting.rfind("\n") + 1 or len(waiting)
                yield waiting[:end]
                waiting = waiting[end:]
            yield waiting + utf8.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UserError(f"--data {file}: not UTF-8 ({error.reason}); re-encode it") from error
    except (OSError, EOFError) as error:
        raise UserError(f"--data {file}: cannot be read ({' '.join(str(error).split())})") from error


def _stories() -> Iterator[str]:
    from vnc.tinyworld.stories import story

    return (story(index, STORIES_BOOK).text for index in range(STORIES))


def _figures(size: int, tokens: dict[str, int]) -> dict[str, Any]:
    figures: dict[str, dict[str, float]] = {}
    for name, count in tokens.items():
        figures[name] = {"tokens": count, "bytes_per_token": size / count}
        if GPT2 in tokens:
            figures[name] |= {"ratio": tokens[GPT2] / count, "tokens_saved": 1 - count / tokens[GPT2]}
    return {"bytes": size, "tokenizers": figures}


def _print_tables(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    with_gpt2 = GPT2 in result["vocabularies"]
    text = Table("text", "bytes", "vocabulary", "tokens", "bytes/token")
    for column in ("x GPT-2", "tokens saved") if with_gpt2 else ():
        text.add_column(column)
    rows = dict(result["sources"])
    if len(rows) > 1:
        rows["in total"] = result["total"]
    for source, figures in rows.items():
        for name, each in figures["tokenizers"].items():
            more = (f"{each['ratio']:.3f}", f"{each['tokens_saved']:.1%}") if with_gpt2 else ()
            text.add_row(source, f"{figures['bytes']:,}", name, f"{each['tokens']:,}", f"{each['bytes_per_token']:.3f}",
                         *more)  # fmt: skip
    vocabularies = Table("vocabulary", "size", "in use", "tokens/s, 1 thread", "longest in use")
    for name, each in result["vocabularies"].items():
        vocabularies.add_row(name, f"{each['vocab_size']:,}", f"{each['share_in_use']:.1%}",
                             f"{each['tokens_per_second']:,.0f}", " ".join(map(repr, each["longest"])))  # fmt: skip
    for table in (text, vocabularies):
        for each_column in table.columns:
            left = each_column.header in ("text", "vocabulary", "longest in use")
            each_column.justify, each_column.overflow = "left" if left else "right", "fold"
    console = Console(markup=False)
    console.print(text)
    console.print(vocabularies)
