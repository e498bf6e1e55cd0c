"""A run in a checkpoint: what a VNCModule, its optimizer and its data write there (vnc/checkpoint.py has the layout),
and how a run goes on from it. The strategy calls these when Lightning asks it to save or to load."""

from __future__ import annotations

import platform
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.cli import SaveConfigCallback

from vnc import checkpoint as files
from vnc.buckets import Piece
from vnc.depth import TrainingPlan
from vnc.errors import UserError
from vnc.gpt import GPT
from vnc.optimizer import MuonAdamW
from vnc.processes import Processes
from vnc.sharded_tensors import save_tensors
from vnc.tokenizer import Tokenizer


def write(module: Any, folder: Path, collected: dict[str, Any], background: bool = False) -> Future[None]:
    """Publish the VNCModule's run as `folder`; `collected` is Lightning's dict of callbacks' and datamodule's states.

    In the background, numbers are copied now and written while training goes on; the result is there, or raises, when
    the directory is whole or has failed.
    """
    trainer = module.trainer
    processes: Processes = getattr(trainer.strategy, "savers" if background else "processes", Processes())
    datamodule = trainer.datamodule
    weights = {name: Piece.whole(p.data) for name, p in module.gpt.named_parameters()}
    state: dict[str, Piece] = {}
    optimizer: MuonAdamW | None = trainer.optimizers[0] if trainer.optimizers else None
    if optimizer is not None:
        weights, state = optimizer.named_pieces(module.gpt)
    if background:
        weights, state = ({name: piece.copy() for name, piece in part.items()} for part in (weights, state))
    trainer_state = {
        "global_step": module.global_step,
        "optimizer_steps": optimizer.step_count if optimizer is not None else 0,
        "callbacks": collected.get("callbacks", {}),
        "versions": {
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        },
    }

    def write_parts(partial: Path) -> None:
        if processes.rank == 0:
            files.write_model_json(partial, module.gpt.config, bool(datamodule.chat))
            datamodule.tokenizer.save(partial)
            files.write_json(partial / "plan.json", module.plan.to_dict())
            files.write_json(partial / "data.json", collected.get(type(datamodule).__qualname__, {}))
            files.write_json(partial / "trainer.json", trainer_state)
        save_tensors(partial / files.MODEL_DIR, weights, processes.group)
        if state:
            save_tensors(partial / files.OPTIMIZER_DIR, state, processes.group)

    published: Future[None] = Future()

    def publish() -> None:
        try:
            files.publish(folder, write_parts, processes)
            published.set_result(None)
        except BaseException as error:
            published.set_exception(error)

    if background:
        threading.Thread(target=publish, daemon=True, name="checkpoint").start()
    else:
        publish()
    return published


def read(module: Any, folder: Path) -> dict[str, Any]:
    """The checkpoint of a VNCModule as the dict Lightning expects; tensors are read later, straight into their places.
    Raises UserError for one of other sizes or another vocabulary."""
    trainer = module.trainer
    config, _chat = files.read_model_json(folder)
    check_vocabulary(folder, trainer.datamodule.tokenizer)
    if config != module.plan.config:
        mine, other = module.plan.to_dict()["config"], files.read_json(folder / files.MODEL_JSON)["config"]
        differing = {key: (other[key], mine[key]) for key in mine if other[key] != mine[key]}
        raise UserError(
            f"{folder} holds a model of other sizes (checkpoint, this run): {differing}; use the configuration it "
            "was trained with, or model.init_from to start a new run from it"
        )
    state = files.read_json(folder / "trainer.json")
    return {
        "folder": str(folder),
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {},
        "global_step": state["global_step"],
        "callbacks": state["callbacks"],
        "optimizer_states": [],
        "lr_schedulers": [],
        type(trainer.datamodule).__qualname__: files.read_json(folder / "data.json"),
    }


def load_optimizer(folder: Path, gpt: GPT, optimizer: MuonAdamW) -> None:
    """The optimizer's state, and how many steps it has taken: with a mid-trained model those of pretraining too."""
    files.load_tensors(folder / files.OPTIMIZER_DIR, optimizer.named_pieces(gpt)[1])
    state = files.read_json(folder / "trainer.json")
    optimizer.step_count = int(state.get("optimizer_steps", state["global_step"]))


def check_vocabulary(folder: Path, mine: Tokenizer) -> None:
    """UserError unless the checkpoint was trained with the vocabulary of the data at hand."""
    theirs = Tokenizer.load(folder)
    if theirs.fingerprint != mine.fingerprint:
        raise UserError(
            f"{folder} was trained with another vocabulary ({theirs.vocab_size} tokens; this data's has "
            f"{mine.vocab_size}); give the data the checkpoint's, such as --data.tokenizer {folder}"
        )


def resumed_plan(trainer: lightning.Trainer) -> TrainingPlan | None:
    """The plan of the checkpoint that `fit` goes on from, if any. Lightning sets trainer.ckpt_path only once the model
    exists, which is too late to choose its batch; the command line's own callback knows it from the start."""
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    configs = [callback.config for callback in callbacks if isinstance(callback, SaveConfigCallback)]
    path = next((config.get("ckpt_path") for config in configs), None) or trainer.ckpt_path
    if not path:
        return None
    file = files.resolve(Path(path)) / "plan.json"
    return TrainingPlan.from_dict(files.read_json(file), str(file))
