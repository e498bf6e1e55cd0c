"""The YAML of a sweep: what it says, what is refused, and the two that come with vnc."""

from pathlib import Path

import pytest
import yaml

from scaling.sweep_config import read_sweep
from scaling.sweep_plan import plan_runs, warnings
from vnc.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
WHOLE = dict(name="mine", depths=[2, 3], budgets=["1e12", 2.0e12], config="configs/tiny.yaml")


def written(folder: Path, **values: object) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (WHOLE | values).items() if value is not ...}))
    return path


def test_values_and_defaults(tmp_path):
    read = read_sweep(written(tmp_path))
    assert (read.depths, read.budgets, read.seeds) == ((2, 3), (1e12, 2e12), (1337,))
    assert read.price_per_hour is None and read.submitit == {}


def test_overrides_become_options_of_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    overrides = {"model.sequence_len": 256, "model.matrix_lr": None, "data": "TinyWorld", "model.lr_scale": 0.5,
                 "samples.prompts": ["a", "b"], "data.token_cache": True}  # fmt: skip
    assert read_sweep(written(tmp_path, overrides=overrides)).base_arguments == [
        "--config", "configs/tiny.yaml", "--data", "TinyWorld", "--data.token_cache", "true", "--model.lr_scale", "0.5",
        "--model.matrix_lr", "null", "--model.sequence_len", "256", "--samples.prompts", "[a, b]",
        "--model.num_steps", "null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(depth=[2]), "a sweep has no key 'depth'; it has name, depths"),
        (dict(budgets=...), "a sweep needs budgets"),
        (dict(budgets=["1e12", "much"]), "budgets: 'much' is not a number"),
        (dict(depths=4), "depths: 4 must be a list"),
        (dict(depths=[2.5]), "depths: 2.5 is not a whole number"),
        (dict(seeds=[True]), "seeds: True is not a whole number"),
        (dict(depths=[2, 2]), "depths: 2 twice"),
        (dict(overrides=["a"]), "overrides: must be names with values"),
        (dict(overrides={"model.depth": 3}), "overrides: model.depth cannot be set here: give depths"),
        (dict(overrides={"model.num_steps": 3}), "the budget decides it"),
        (dict(price_per_hour="cheap"), "price_per_hour: 'cheap' is not a number"),
        (dict(name="a/b"), "name: 'a/b' must be one folder's name"),
    ],
)
def test_bad_values_are_refused_with_file_and_key(tmp_path, change, said):
    path = written(tmp_path, **change)
    with pytest.raises(UserError) as refused:
        read_sweep(path)
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value)


def test_the_sweeps_that_come_with_vnc(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # from where they are found among the installed ones
    users, tiny = (read_sweep(Path("configs") / name) for name in ("sweep.yaml", "sweep_tiny.yaml"))
    assert users.depths == tuple(range(6, 15)) and users.budgets == (1e18, 2e18, 3e18, 6e18)
    given = {key.removeprefix("model."): value for key, value in tiny.overrides.items() if key.startswith("model.")}
    base = yaml.safe_load((ROOT / tiny.config).read_text())["model"]
    runs = plan_runs(tiny.grid, base | given, tiny.overrides["data.vocab_size"])
    assert len(runs) == 24 and warnings(runs) == []
