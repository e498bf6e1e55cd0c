"""OpenWebText: the classic corpus of GPT-2 reproductions (Gokaslan & Cohen 2019), read the classic way: GPT-2's
vocabulary, and one stream of text that is cut wherever a row ends. `vnc prepare openwebtext` makes its shards."""

from __future__ import annotations

from datamodules.fineweb_edu import FineWebEdu
from datamodules.packing import Packing


class OpenWebText(FineWebEdu):
    """Rows from OpenWebText's shards; as FineWebEdu, with other defaults.

    Args:
        data_dir: folder that `vnc prepare openwebtext` wrote.
        tokenizer: "gpt2", or a folder that `vnc tokenizer train` wrote.
        packing: concat (GPT-2's), bestfit_split (nothing is lost), bestfit_crop (nanochat's) or bestfit_pad.
        lanes: streams the data is read in; the number of processes must divide it. Part of the order of the data.
        seed: order of the data.
        num_workers: 0 reads on threads of the training process, n in n processes beside it.
        val_tokens: tokens that validation reads.
        token_cache: tokenise the shards once, and map the tokens ever after; false tokenises on the fly.
        cache_dir: where the tokens are kept: DATA_DIR/.tokens when null.
        max_shards: use only the first so many shards, the last of them for validation.
    """

    def __init__(
        self,
        data_dir: str = "data/openwebtext",
        tokenizer: str = "gpt2",
        packing: Packing = "concat",
        lanes: int = 64,
        seed: int = 1337,
        num_workers: int = 0,
        val_tokens: int = 2**20,
        token_cache: bool = True,
        cache_dir: str | None = None,
        max_shards: int | None = None,
    ) -> None:
        super().__init__(data_dir, tokenizer, packing, lanes, seed, num_workers, val_tokens, token_cache, cache_dir,
                         max_shards=max_shards)  # fmt: skip
