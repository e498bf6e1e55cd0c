"""FineWebEdu: pretraining on Parquet shards with a `text` column, such as FineWeb-Edu's (Penedo et al. 2024, arXiv
2406.17557). Local shards are tokenised once (token_cache.py), remote ones as they arrive (docs/streaming.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from datamodules.base import RowDataModule
from datamodules.packing import Packing
from datamodules.parquet import Shard, identity, is_remote, printable, read_shards
from datamodules.streaming import DocumentWindows
from datamodules.token_cache import FOLDER, CachedText, MappedTokens, token_cache
from datamodules.tokenized_text import TokenizedText
from datamodules.windows import WINDOW_DOCUMENTS, TextWindows
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer

REMOTE_CACHE = "~/.cache/vnc/shards"


class FineWebEdu(RowDataModule):
    """Rows from Parquet shards.

    Args:
        data_dir: folder of *.parquet files with a `text` column; the last one by name is validation. Or a URL:
            hf://datasets/OWNER/NAME/FOLDER, https://..., s3://... (docs/streaming.md).
        tokenizer: "gpt2", or a folder that `vnc tokenizer train` wrote.
        packing: concat (GPT-2's, which trained best), bestfit_split (nothing is lost), bestfit_crop (nanochat's) or
            bestfit_pad.
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        seed: order of the data.
        num_workers: 0 reads on threads of the training process, n in n processes beside it.
        val_tokens: tokens that validation reads.
        token_cache: tokenise local shards once, and map the tokens ever after; false tokenises on the fly.
        cache_dir: where tokens of local shards, or parts of remote ones, are kept: DATA_DIR/.tokens and
            ~/.cache/vnc/shards when null.
        cache_gb: most that parts of remote shards may take there.
        max_shards: use only the first so many shards, the last of them for validation.
    """

    def __init__(
        self,
        data_dir: str = "data/fineweb_edu",
        tokenizer: str = "gpt2",
        packing: Packing = "concat",
        lanes: int = 64,
        seed: int = 1337,
        num_workers: int = 0,
        val_tokens: int = 2**20,
        token_cache: bool = True,
        cache_dir: str | None = None,
        cache_gb: float = 20.0,
        max_shards: int | None = None,
    ) -> None:
        super().__init__(packing, lanes, seed, num_workers, val_tokens)
        if cache_gb < 0:
            raise UserError(f"cache_gb={cache_gb}: must be 0 or more")
        self.data_dir, self.tokenizer_name = data_dir, tokenizer
        self.token_cache, self.cache_dir, self.cache_gb = token_cache, cache_dir, cache_gb
        self.max_shards = max_shards

    def prepare_data(self) -> None:
        """Tokenises what is not yet in the token cache. One process does it, the others find it done."""
        if self.token_cache and not is_remote(self.data_dir):
            training, validation = self._shards()
            self._tokens([*training, validation], Tokenizer.load(self.tokenizer_name))

    def setup(self, stage: str) -> None:
        training, validation = self._shards()
        self.tokenizer = Tokenizer.load(self.tokenizer_name)
        name = printable(self.data_dir)
        self.train_windows = self._windows(f"{name} (training shards)", training, self.lanes)
        self.val_windows = self._windows(f"{name} (validation shard {validation.name})", [validation], 1)
        self.data_identity = {"documents in a window": WINDOW_DOCUMENTS} | identity(training)

    def _shards(self) -> tuple[tuple[Shard, ...], Shard]:
        cache_dir = Path(self.cache_dir or REMOTE_CACHE).expanduser() if is_remote(self.data_dir) else None
        return read_shards(self.data_dir, self.max_shards, cache_dir, round(self.cache_gb * 1e9))

    def _windows(self, name: str, shards: Sequence[Shard], lanes: int) -> DocumentWindows:
        texts = TextWindows.of(name, shards, lanes)
        if self.token_cache and not is_remote(self.data_dir):
            return CachedText(texts, self._tokens(shards, self.tokenizer), self.tokenizer.vocab_size)
        return TokenizedText(texts, self.tokenizer)

    def _tokens(self, shards: Sequence[Shard], tokenizer: Tokenizer) -> dict[Shard, MappedTokens]:
        data = Path(self.data_dir)
        folder = data / FOLDER
        if self.cache_dir is not None:  # which several data folders, with shards of the same names, may share
            place = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
            folder = Path(self.cache_dir) / f"{data.resolve().name}-{place}"
        return token_cache(shards, tokenizer, folder)
