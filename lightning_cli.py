"""`vnc fit | validate | test`: Lightning's command line over VNCModule, the data modules and the callbacks.

Here stand the defaults of a run, the order of its callbacks, and the run folder runs/NAME. Importing this imports torch
and Lightning; cli.py does so only when one of the three verbs is asked for.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from callbacks import (
    ChatCoreEval,
    CheckpointWriter,
    CoreEval,
    Preemption,
    Progress,
    RunRecord,
    Samples,
    StopGuard,
    TrainingMetrics,
)
from callbacks.metrics import ClockRestart
from datamodules import FineWebEdu, LocalText, OpenWebText, TaskMixture, TinyWorld  # noqa: F401  (--data knows them)
from datamodules.base import RowDataModule
from one_line_errors import OneLineErrors
from vnc import checkpoint as files
from vnc.errors import UserError
from vnc.module import VNCModule
from vnc.strategy import DistMuonStrategy
from vnc.watch import RankFailure

TRAINER_DEFAULTS: dict[str, Any] = {
    "strategy": DistMuonStrategy.strategy_name,
    "devices": 1,
    "max_epochs": -1,  # the plan's steps end a run
    "val_check_interval": 250,
    "check_val_every_n_epoch": None,  # the interval counts steps of the run
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_progress_bar": False,  # callbacks.Progress instead
    "enable_model_summary": False,  # vnc plan instead
    "enable_checkpointing": False,  # callbacks.CheckpointWriter instead
    "use_distributed_sampler": False,  # lanes deal the rows
}
VERBS = ("fit", "validate", "test")
REFUSAL_SECONDS = 5.0  # for the first process to say what is wrong
RUN_NAME = "VNC_RUN_NAME"  # in the environment of the processes that the first one starts


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with errors in one line."""


class VNCCLI(LightningCLI):
    def __init__(self) -> None:
        super().__init__(
            VNCModule,
            RowDataModule,
            subclass_mode_data=True,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=1337,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},  # a run folder that is taken was refused before
            parser_class=Parser,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The one that is asked for: a parser of all options takes a quarter of a second to make."""
        hidden = {"model", "dataloaders", "datamodule", "train_dataloaders", "val_dataloaders", "weights_only"}
        return {verb: hidden for verb in VERBS if verb in sys.argv[1:2]} or dict.fromkeys(VERBS, hidden)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default=None, help="run folder runs/NAME; a time stamp when null")
        parser.add_argument("--runs_dir", type=str, default="runs", help="where run folders are made")
        parser.add_argument(
            "--resume", type=bool, default=False, help="go on from runs/NAME/checkpoints/last if it is there"
        )
        parser.add_class_arguments(DistMuonStrategy, DistMuonStrategy.strategy_name)
        parser.add_lightning_class_args(StopGuard, "guard")
        parser.add_class_arguments(CheckpointWriter, "checkpoint", skip={"folder"})
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(CoreEval, "core_eval")
        parser.add_lightning_class_args(ChatCoreEval, "chatcore_eval")

    def _parse_ckpt_path(self) -> None:
        """Lightning reads hyperparameters from a file here; ours are directories and never override the config."""
        settings = self.config[self.config.subcommand]
        if settings.get("ckpt_path"):
            path = Path(settings.ckpt_path)
            if path.is_file():
                raise UserError(f"ckpt_path={path} is a file; give a checkpoint directory such as "
                                "runs/NAME/checkpoints/last")  # fmt: skip
            settings.ckpt_path = str(files.resolve(path))

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand]
        if self.subcommand != "fit":
            self.save_config_callback = None
            return
        settings.name = settings.name or run_name(settings.trainer.num_nodes)
        self.run_dir = Path(settings.runs_dir) / settings.name
        last = self.run_dir / "checkpoints" / "last"
        # SLURM has put the job back into the queue: it goes on, with the very command that started it.
        restarted = SLURMEnvironment.detect() and int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        resume = settings.resume or restarted
        if resume and (settings.ckpt_path is None or restarted) and (last / files.MODEL_JSON).is_file():
            settings.ckpt_path = str(last)
        if resume and settings.ckpt_path == str(last) and finished(last):
            if first_process():
                print(f"{self.run_dir} is finished; choose another --name to train again")
            raise SystemExit(0)
        if not resume and settings.ckpt_path is None and (self.run_dir / "checkpoints").exists():
            refuse(f"{self.run_dir} holds a run already; choose another --name, or go on with it by --resume true")

    def before_fit(self) -> None:
        """Data that must be made first is made here: once there are several processes, the others would wait for it
        with a time limit."""
        self.datamodule.prepare_data()

    before_validate = before_test = before_fit

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with callbacks in the order in which a step must see them."""
        settings = self.config_init[self.subcommand]
        config = {**settings["trainer"], **kwargs}
        own: list[Any] = list(config.pop("callbacks") or [])
        if self.subcommand == "fit":
            checkpoint = settings["checkpoint"]
            checkpoint.folder = self.run_dir / "checkpoints"
            metrics = TrainingMetrics()
            # The guard refuses a broken step; the record notes the step, in memory; then its weights are saved, before
            # anything that may fail is tried, and the run ends there if it was asked to.
            first = [settings["guard"], metrics, RunRecord(self.run_dir), checkpoint, Preemption(checkpoint)]
            evaluations = [settings["core_eval"], settings["chatcore_eval"]]
            own = [*first, Progress(), settings["samples"], *evaluations, *own, ClockRestart(metrics)]
            if config["logger"] in (None, True):
                config["logger"] = TensorBoardLogger(self.run_dir.parent, name=self.run_dir.name, version="")
        elif config["logger"] in (None, True):
            config["logger"] = False
        if config["strategy"] == DistMuonStrategy.strategy_name:
            config["strategy"] = settings[DistMuonStrategy.strategy_name]
        return self._instantiate_trainer(config | {"callbacks": own}, [])


def run_name(num_nodes: int) -> str:
    """The name of a run that was given none, the same in all its processes."""
    if SLURMEnvironment.detect():
        return f"slurm_{os.environ['SLURM_JOB_ID']}"
    if TorchElasticEnvironment.detect() or num_nodes > 1:
        refuse("give the run a --name: processes that torchrun starts, or other machines, cannot agree on a time stamp")
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        os.environ[RUN_NAME] = time.strftime("run_%Y%m%d_%H%M%S")  # for the processes that this one starts
    return os.environ[RUN_NAME]


def first_process() -> bool:
    """Whether this process is the one to speak, as far as its environment tells before the trainer exists."""
    return not getattr(rank_zero_only, "rank", 0)


def refuse(message: str) -> NoReturn:
    """UserError; where several processes find the same fault, only the first of them says it."""
    if first_process():
        raise UserError(message)
    time.sleep(REFUSAL_SECONDS)  # torchrun and SLURM end all processes with the first that ends
    raise SystemExit(2)


def finished(checkpoint: Path) -> bool:
    """Has the run of this checkpoint taken all its planned steps?"""
    planned = files.read_json(checkpoint / "plan.json")["num_steps"]
    return bool(files.read_json(checkpoint / "trainer.json")["global_step"] >= planned)


def main() -> None:
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    try:
        VNCCLI()
    except ValueError as error:
        if isinstance(error.__cause__, UserError):  # jsonargparse wraps what a class refuses in its __init__
            raise error.__cause__ from None
        raise
    except RankFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except UserError:
        if getattr(rank_zero_only, "rank", 0) and dist.is_initialized():
            sys.exit(2)  # rank 0 has the same error, or has been told of this one
        raise
