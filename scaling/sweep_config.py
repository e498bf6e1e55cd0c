"""The YAML of a sweep: a name, the grid, and the configuration of `vnc fit` that all runs share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config_files import find_config
from scaling.sweep_plan import Grid, check_grid
from vnc.errors import UserError

REQUIRED = ("name", "depths", "budgets", "config")
SET_BY_THE_SWEEP = {
    "name": "the sweep names its runs",
    "runs_dir": "the runs lie in the sweep's own folder",
    "resume": "the sweep always goes on",
    "ckpt_path": "every run starts from random weights",
    "model.depth": "give depths",
    "model.target_flops": "give budgets",
    "model.num_steps": "the budget decides it",
    "seed_everything": "give seeds",
    "data.seed": "give seeds",
    "data.init_args.seed": "give seeds",
}


@dataclass(frozen=True)
class SweepConfig:
    name: str
    depths: tuple[int, ...]
    budgets: tuple[float, ...]
    """Training FLOPs."""
    config: str
    """Configuration of `vnc fit` that every run starts from."""
    seeds: tuple[int, ...] = (1337,)
    """Of the weights and of the order of the data."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Options of `vnc fit` by their full names, such as model.sequence_len, over those in `config`."""
    price_per_hour: float | None = None
    """Of one device, in whatever currency."""
    submitit: dict[str, Any] = field(default_factory=dict)
    """What submitit's executor is to ask the cluster for, by submitit's own names: timeout_min, slurm_partition ..."""

    @property
    def grid(self) -> Grid:
        return Grid(self.depths, self.budgets, self.seeds)

    @property
    def base_arguments(self) -> list[str]:
        """What all runs are given alike: `vnc fit` and these."""
        given = [word for key, value in self.overrides.items() for word in (f"--{key}", as_argument(value))]
        return ["--config", str(find_config(Path(self.config))), *given, "--model.num_steps", "null"]


def as_argument(value: Any) -> str:
    """A value of YAML as it is written on a command line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=2**20).removesuffix("\n").removesuffix("\n...")


def read_sweep(path: Path) -> SweepConfig:
    """The configuration in a file. Raises UserError, which names the file and the key."""
    path = find_config(path)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = [item.name for item in dataclasses.fields(SweepConfig)]
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a sweep; it has the keys {', '.join(known)}")
    for key in values:
        if key not in known:
            raise UserError(f"{path}: a sweep has no key {key!r}; it has {', '.join(known)}")
    for key in REQUIRED:
        if values.get(key) is None:
            raise UserError(f"{path}: a sweep needs {key}")
    try:
        config = SweepConfig(
            name=str(values["name"]),
            depths=tuple(whole("depths", value) for value in a_list("depths", values["depths"])),
            # YAML takes 1e18 for a text, as it has no decimal point.
            budgets=tuple(number("budgets", value) for value in a_list("budgets", values["budgets"])),
            config=str(values["config"]),
            seeds=tuple(whole("seeds", value) for value in a_list("seeds", values.get("seeds", [1337]))),
            overrides=a_mapping("overrides", values.get("overrides")),
            price_per_hour=None if values.get("price_per_hour") is None
            else number("price_per_hour", values["price_per_hour"]),
            submitit=a_mapping("submitit", values.get("submitit")),
        )  # fmt: skip
        check_grid(config.grid)
        for key in config.overrides:
            if key in SET_BY_THE_SWEEP:
                raise UserError(f"overrides: {key} cannot be set here: {SET_BY_THE_SWEEP[key]}")
        if Path(config.name).name != config.name:
            raise UserError(f"name: {config.name!r} must be one folder's name")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def a_list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{key}: {value!r} must be a list, such as [2, 3, 4]")
    return value


def a_mapping(key: str, value: Any) -> dict[str, Any]:
    if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise UserError(f"{key}: must be names with values, such as model.sequence_len: 256")
    return dict(value or {})


def number(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{key}: {value!r} is not a number") from None


def whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{key}: {value!r} is not a whole number")
    return value
