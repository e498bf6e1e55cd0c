"""FineWebEdu: pretraining on a folder of Parquet shards with a `text` column, such as FineWeb-Edu's (Penedo et al.
2024, arXiv 2406.17557). Documents are tokenised as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.base import RowDataModule
from datamodules.packing import Packing, Row
from datamodules.parquet import read_shards
from datamodules.windows import WINDOW_DOCUMENTS, TextWindows
from vnc.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class TokenizedText:
    """The documents of text windows: BOS, then the text's tokens. Every epoch has the same."""

    texts: TextWindows
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        return self.texts.name

    @property
    def count(self) -> int:
        return self.texts.count

    def documents(self, epoch: int, window: int) -> list[Row]:
        bos = self.tokenizer.bos_id
        encoded = self.tokenizer.encode_batch(self.texts.texts(window))
        return [np.array([bos, *ids], dtype=np.int32) for ids in encoded]


class FineWebEdu(RowDataModule):
    """Rows from Parquet shards.

    Args:
        data_dir: folder of *.parquet files with a `text` column; the last one by name is validation.
        tokenizer: "gpt2", or a folder that `vnc tokenizer train` wrote.
        packing: bestfit_crop (rows always full, what does not fit is cropped) or bestfit_pad.
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        seed: order of the data.
        num_workers: 0 reads in the training process, 1 beside it. Tokenising has threads of its own.
        val_tokens: tokens that validation reads.
    """

    def __init__(
        self,
        data_dir: str = "data/fineweb_edu",
        tokenizer: str = "gpt2",
        packing: Packing = "bestfit_crop",
        lanes: int = 64,
        seed: int = 1337,
        num_workers: int = 0,
        val_tokens: int = 2**20,
    ) -> None:
        super().__init__(packing, lanes, seed, num_workers, val_tokens)
        self.data_dir, self.tokenizer_name = Path(data_dir), tokenizer

    def setup(self, stage: str) -> None:
        training, validation = read_shards(self.data_dir)
        self.tokenizer = Tokenizer.load(self.tokenizer_name)
        texts = TextWindows.of(f"{self.data_dir} (training shards)", training, self.lanes)
        self.train_windows = TokenizedText(texts, self.tokenizer)
        name = f"{self.data_dir} (validation shard {validation.path.name})"
        self.val_windows = TokenizedText(TextWindows.of(name, [validation], lanes=1), self.tokenizer)
        # Sizes and counts notice an exchanged file without reading it.
        self.data_identity = {"documents in a window": WINDOW_DOCUMENTS} | {
            shard.path.name: f"{shard.size} bytes with {shard.documents} documents" for shard in training
        }
