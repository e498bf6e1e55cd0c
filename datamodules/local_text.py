"""LocalText: your own files as they are. The first run shuffles them into shards (`vnc prepare text`) and learns a
vocabulary from them, unless one is given; later runs find both done."""

from __future__ import annotations

import contextlib
import fcntl
import io
import warnings
from pathlib import Path
from typing import Any, Literal

from datamodules.fineweb_edu import FineWebEdu
from datamodules.manifest import MANIFEST, read_manifest
from datamodules.prepare.source_files import ALL_KINDS, find_local
from datamodules.prepare.text import prepare_text
from datamodules.tokenizer_training import MAX_BYTES, training_texts
from vnc.errors import UserError
from vnc.tokenizer import FILE_NAME, Tokenizer


class LocalText(FineWebEdu):
    """Rows from your own files.

    Args:
        path: files and folders, separated by commas: .txt, .md, .jsonl, .csv (also with .gz after it) and .parquet.
        data_dir: folder for what is made of them: shards, tokens and, if it is learnt, the vocabulary.
        tokenizer: "gpt2", a folder that `vnc tokenizer train` wrote, or a checkpoint; null learns one from your text.
        vocab_size: ids of a vocabulary that is learnt.
        document: what a document is in .txt and .md: a file, a line, or what stands between a text such as "\\n\\n".
        column: column of .jsonl, .csv and .parquet that holds the text.
        on_error: whether what is broken in the files stops the run or is left out, counted.
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        val_tokens: tokens that validation reads.
    """

    def __init__(
        self,
        path: str,
        data_dir: str = "data/local_text",
        tokenizer: str | None = None,
        vocab_size: int = 4_096,
        document: str = "file",
        column: str = "text",
        on_error: Literal["stop", "skip"] = "stop",
        lanes: int = 8,
        val_tokens: int = 2**18,
        **others: Any,
    ) -> None:
        learnt = Path(data_dir) / f"bpe_{vocab_size}"
        super().__init__(data_dir=str(Path(data_dir) / "shards"), tokenizer=tokenizer or str(learnt), lanes=lanes,
                         val_tokens=val_tokens, **others)  # fmt: skip
        self.path, self.document, self.column, self.on_error = path, document, column, on_error
        self.learnt = None if tokenizer else learnt
        self.vocab_size = vocab_size

    def prepare_data(self) -> None:
        """Shards, vocabulary, tokens: each made by the first process to come, while the others wait for it."""
        folder = Path(self.data_dir).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("w")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another "
                            "--data.data_dir") from error  # fmt: skip
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = read_manifest(Path(self.data_dir)) is not None
            with contextlib.redirect_stdout(io.StringIO()) if done else contextlib.nullcontext():  # said once
                prepare_text(self.path, self.data_dir, self.document, self.column, on_error=self.on_error)
            self._note_newer_files()
            if self.learnt is not None and not (self.learnt / FILE_NAME).exists():
                Tokenizer.train(training_texts(Path(self.data_dir), MAX_BYTES), self.vocab_size).save(self.learnt)
            super().prepare_data()

    def _note_newer_files(self) -> None:
        """The shards stay as they were made; a user who has changed a text since should know."""
        made = (Path(self.data_dir) / MANIFEST).stat().st_mtime_ns
        for file in find_local(self.path, Path(self.data_dir), ALL_KINDS, self.column).files:
            if Path(file.shown).stat().st_mtime_ns > made:
                warnings.warn(f"{file.shown} is newer than {self.data_dir}, which is read as it is; remove that "
                              "folder, or name another --data.data_dir, to read the new text",
                              stacklevel=1)  # fmt: skip
                return
