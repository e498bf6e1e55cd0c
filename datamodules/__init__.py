"""Where rows come from: one LightningDataModule for each kind of data, over windows, lanes and packing."""

from datamodules.fineweb_edu import FineWebEdu
from datamodules.tinyworld import TinyWorld

__all__ = ["FineWebEdu", "TinyWorld"]
