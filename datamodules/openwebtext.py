"""OpenWebText: the classic corpus of GPT-2 reproductions (Gokaslan & Cohen 2019), read the classic way: GPT-2's
vocabulary, and one stream of text that is cut wherever a row ends. `vnc prepare openwebtext` makes its shards."""

from __future__ import annotations

from typing import Any

from datamodules.fineweb_edu import FineWebEdu
from datamodules.packing import Packing


class OpenWebText(FineWebEdu):
    """Rows from OpenWebText's shards: FineWebEdu with other defaults.

    Args:
        data_dir: folder that `vnc prepare openwebtext` wrote.
        packing: concat (GPT-2's), bestfit_split (nothing is lost), bestfit_crop (nanochat's) or bestfit_pad.
    """

    def __init__(self, data_dir: str = "data/openwebtext", packing: Packing = "concat", **others: Any) -> None:
        super().__init__(data_dir=data_dir, packing=packing, **others)
