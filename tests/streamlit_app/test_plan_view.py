"""The Plan page's figures are those of `vnc plan`, and the command it shows trains what it shows."""

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamlit_app.plan_view import Wish, command, estimate, over_depths
from tests.command_line import parse
from vnc.depth import make_plan
from vnc.errors import UserError
from vnc.flops import estimate_memory
from vnc.plan_report import as_dict


def test_figures_are_those_of_vnc_plan() -> None:
    found = estimate(Wish(depth=20, devices=8, mfu=0.5))
    told = as_dict(make_plan(20, world_size=8), 0.5)
    assert found.parameters == told["total"] and found.plan.num_steps == told["num_steps"]
    assert found.memory.total == told["memory_bytes"]["total"]
    assert found.hours == pytest.approx(told["hours"]["H100"])
    assert found.cost == pytest.approx(found.hours * 8 * Wish.price)
    assert found.tokens_per_parameter == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize(
    ("wish", "steps"),
    [
        (Wish(depth=12, budget="steps", steps=77), 77),
        (Wish(depth=12, budget="FLOPs", flops=1e18), round(1e18 / make_plan(12).flops_per_token / 2**19)),
        (Wish(depth=12, budget="tokens per parameter", ratio=24), make_plan(12, param_data_ratio=24).num_steps),
        (Wish(depth=12, preset="gpt2", sequence_len=1_024, budget="steps", steps=5), 5),
    ],
)
def test_each_kind_of_budget_decides_the_steps(wish: Wish, steps: int) -> None:
    assert estimate(wish).plan.num_steps == steps


def test_where_memory_is_short_the_most_rows_that_fit_are_told() -> None:
    wish = Wish(depth=26, device_bytes=80 * 2**30)
    found = estimate(wish)
    assert not found.fits and found.fitting_rows is not None
    config = found.plan.config
    mine = found.plan.device_batch_size * found.plan.micro_batches
    divisors = [rows for rows in range(1, found.plan.device_batch_size + 1) if mine % rows == 0]
    fitting = [rows for rows in divisors if estimate_memory(config, rows, 1).total <= wish.device_bytes]
    assert found.fitting_rows == max(fitting)
    assert estimate(dataclasses.replace(wish, device_batch_size=found.fitting_rows)).fits
    small = estimate(dataclasses.replace(wish, device_bytes=2**30))
    assert not small.fits and small.fitting_rows is None


def test_depths_that_cannot_be_planned_are_left_out() -> None:
    found = over_depths(Wish(budget="FLOPs", flops=3e15), range(1, 33))
    depths = [each.plan.depth for each in found]
    assert depths[0] == 1 and depths == list(range(1, len(depths) + 1)) and len(depths) < 32
    with pytest.raises(UserError, match="less than half of one step"):
        estimate(Wish(depth=32, budget="FLOPs", flops=3e15))


@pytest.mark.parametrize(
    "wish",
    [
        Wish(depth=26),
        Wish(depth=6, budget="FLOPs", flops=2.51e17, sequence_len=512, device_batch_size=8),
        Wish(depth=12, preset="gpt2", sequence_len=1_024, budget="steps", steps=100),
    ],
)
def test_the_command_asks_for_the_plan_that_is_shown(
    wish: Wish, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = estimate(wish)
    line = command(wish, found)
    monkeypatch.chdir(Path(__file__).parents[2])
    parse(shlex.split(line)[1:], monkeypatch)
    options = dict(zip(shlex.split(line)[2::2], shlex.split(line)[3::2], strict=True))
    config = yaml.safe_load(Path(options.pop("--config")).read_text())["model"]
    config |= {key.removeprefix("--model."): yaml.safe_load(value) for key, value in options.items()}
    config = {key: float(value) if key == "target_flops" else value for key, value in config.items()}
    planned = make_plan(**config)
    assert planned.num_steps == found.plan.num_steps and planned.config == found.plan.config
    assert estimate_memory(planned.config, planned.device_batch_size, 1).total <= wish.device_bytes


def test_no_torch_is_needed() -> None:
    code = "import sys, streamlit_app.plan_view; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
