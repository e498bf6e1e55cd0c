"""Where rows come from: one LightningDataModule for each kind of data, over windows, lanes and packing."""

from datamodules.fineweb_edu import FineWebEdu
from datamodules.local_text import LocalText
from datamodules.openwebtext import OpenWebText
from datamodules.task_mixture import TaskMixture
from datamodules.tinyworld import TinyWorld

__all__ = ["FineWebEdu", "LocalText", "OpenWebText", "TaskMixture", "TinyWorld"]
