"""OpenWebText: the classic corpus of GPT-2 reproductions (Gokaslan & Cohen 2019), read the classic way, which is
FineWebEdu's by default: GPT-2's vocabulary, and one stream of text that is cut wherever a row ends. `vnc prepare
openwebtext` makes its shards."""

from __future__ import annotations

from typing import Any

from datamodules.fineweb_edu import FineWebEdu


class OpenWebText(FineWebEdu):
    """Rows from OpenWebText's shards: FineWebEdu in another folder.

    Args:
        data_dir: folder that `vnc prepare openwebtext` wrote.
    """

    def __init__(self, data_dir: str = "data/openwebtext", **others: Any) -> None:
        super().__init__(data_dir=data_dir, **others)
