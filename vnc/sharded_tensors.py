"""Tensors in a folder of safetensors shards, written and read by any number of processes.

torch.distributed.checkpoint does the work. Its planners here are told, by `Piece`s, which block of which tensor each
process holds, so what N processes wrote, M processes read, each what it holds itself. Nothing is pickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from vnc.buckets import Piece
from vnc.tensor_files import check_shard, compare_shapes, shards


def save_tensors(folder: Path, pieces: Mapping[str, Piece], group: Any = None) -> None:
    """Write tensors as safetensors shards, each process of `group` what it holds; None is this process alone.

    An error of one process is raised on all of them.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*assuming the intent is to save in a single process.*")
            save(
                dict(pieces),
                storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
                planner=_PieceSaver(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=group,
                no_dist=group is None,
            )
    except CheckpointException as error:
        first, _trace = next(iter(error.failures.values()))
        raise first from error


def load_pieces(folder: Path, into: Mapping[str, Piece]) -> None:
    """As `vnc.tensor_files.load_file`, from what any number of processes wrote to `folder`."""
    found = {name: tuple(entry.size) for name, entry in entries(folder).items()}
    compare_shapes(folder, found, {name: piece.shape for name, piece in into.items()})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single process.*")
        planner = _PieceLoader(flatten_state_dict=False, flatten_sharded_tensors=False)
        load(dict(into), storage_reader=HuggingFaceStorageReader(str(folder)), planner=planner, no_dist=True)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors in `folder`, whole, on the CPU."""
    found = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries(folder).items()}
    load_pieces(folder, {name: Piece.whole(tensor) for name, tensor in found.items()})
    return found


def entries(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Sizes and dtypes of the tensors in `folder`; UserError when there are none or a file is damaged."""
    for path in shards(folder):
        check_shard(path)
    described = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: entry for name, entry in described.items() if isinstance(entry, TensorStorageMetadata)}


class _PieceSaver(DefaultSavePlanner):
    """Writes `Piece`s; what several processes hold, one of them writes."""

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([self._item(name, piece) for name, piece in self.state_dict.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        piece: Piece = self.state_dict[index.fqn]
        return piece.tensor.detach().contiguous()

    @staticmethod
    def _item(name: str, piece: Piece) -> WriteItem:
        offsets = torch.Size(piece.offsets)
        data = TensorWriteData(
            chunk=ChunkStorageMetadata(offsets, piece.tensor.shape),
            properties=TensorProperties(dtype=piece.tensor.dtype),
            size=torch.Size(piece.shape),
        )
        return WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=data)


class _PieceLoader(DefaultLoadPlanner):
    """Reads `Piece`s in place."""

    def set_up_planner(self, state_dict: Any, metadata: Any = None, is_coordinator: bool = False) -> None:
        # The default walks through the values and would replace what it does not know.
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items: list[ReadItem] = []
        for name, piece in self.state_dict.items():
            entry: Any = self.metadata.state_dict_metadata[name]
            chunk = ChunkStorageMetadata(torch.Size(piece.offsets), piece.tensor.shape)
            items += create_read_items_for_chunk_list(name, entry, [chunk])
        return LoadPlan(items)

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        piece: Piece = self.state_dict[index.fqn]
        return piece.tensor
