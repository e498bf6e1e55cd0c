"""`vnc tokenizer train`: a vocabulary learnt from your own text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datamodules.parquet import read_shards, read_texts
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

MAX_BYTES = 2_000_000_000


def train(data: str, vocab_size: int = 32_768, out: str = "tokenizer", max_bytes: int = MAX_BYTES) -> None:
    """Train a byte-pair vocabulary on the training shards of a folder and save it as OUT/tokenizer.json.

    Args:
        data: Folder of Parquet shards with a text column; the last shard, validation, is not read.
        vocab_size: Number of tokens, bytes and special tokens included.
        out: Folder to write tokenizer.json to; must not hold one yet.
        max_bytes: Text to learn from, in bytes of UTF-8; more changes the vocabulary little.
    """
    folder = Path(out)
    if (folder / "tokenizer.json").exists():
        raise UserError(f"{folder / 'tokenizer.json'} exists already; choose another --out or remove it first")
    tokenizer = Tokenizer.train(training_texts(Path(data), max_bytes), vocab_size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    print(f"{folder / 'tokenizer.json'}: {tokenizer.vocab_size:,} tokens; use it with --data.tokenizer {folder}")


def training_texts(folder: Path, max_bytes: int) -> Iterator[str]:
    """The documents of the training shards in order, until `max_bytes` of them have been given."""
    given = 0
    for shard in read_shards(folder)[0]:
        for group in range(len(shard.row_groups)):
            for text in read_texts(shard, group):
                if given >= max_bytes:
                    return
                given += len(text.encode())
                yield text
