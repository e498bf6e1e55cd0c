"""What a sweep shows: rows, sums, what is left, and what fits on a small terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from scaling.sweep_plan import Grid, plan_runs
from scaling.sweep_runner import Entry
from scaling.sweep_table import Display, clock, line, seconds_left, summary, table, totals, visible

MODEL = dict(aspect_ratio=16, head_dim=16, sequence_len=256, window_pattern="L", total_batch_tokens=4096)


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Finished, halfway, failed, waiting."""
    made = [Entry(run, tmp_path / run.name) for run in plan_runs(Grid((2, 3, 4, 5), (1e12,), (1,)), MODEL, 1024)]
    for entry, state, share in zip(made, ("finished", "running", "failed", "waiting"), (1, 0.5, 0.25, 0), strict=True):
        entry.state = state
        if share:
            plan = entry.run.plan
            step = round(share * plan.num_steps)
            row = dict(step=step - 1, loss_ema=3.25, tokens_per_second=8192.0,
                       flops=step * plan.total_batch_tokens * plan.flops_per_token)  # fmt: skip
            val = [{"bits_per_byte": 0.9}] if share == 1 else []
            entry.folder.mkdir()
            (entry.folder / "run.json").write_text(json.dumps(
                {"status": state, "train": [row], "val": val, "hours": 2 * share}
            ))  # fmt: skip
    made[2].reason = "killed by SIGKILL"
    return made


def drawn(renderable: object, width: int = 140, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(renderable)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_row_for_each_run(entries):
    rows = drawn(table(entries, 3.0))
    assert " ".join(rows[0].split()) == "run state steps loss val bpb tokens/s left FLOPs hours cost"
    assert rows[1].split() == [
        "d2_1e12_s1", "finished", "451/451", "3.250", "0.9000", "8,192", "1.0e+12/1.0e+12", "2.00", "6.00"
    ]  # fmt: skip
    assert rows[2].split()[2:6] == ["99/198", "3.250", "8,192", "0:50"]  # 99 steps of 4,096 at 8,192 a second
    assert rows[3].split()[-3:] == ["killed", "by", "SIGKILL"]
    assert rows[4].split() == ["d5_1e12_s1", "waiting", "0/61", "0.0e+00/1.0e+12", "0.00", "0.00"]
    assert "cost" not in drawn(table(entries, None))[0]


def test_sums_and_what_is_left(entries):
    found = totals(entries, slots=1)
    assert found.states == {"finished": 1, "running": 1, "failed": 1, "waiting": 1}
    flops = [entry.progress.flops for entry in entries]
    assert found.flops == sum(flops) and found.hours == 3.5
    left = entries[1].run.plan.total_flops - flops[1] + entries[3].run.plan.total_flops  # the failed run is given up
    assert found.seconds_left == pytest.approx(left / (sum(flops) / 3.5) * 3600)
    assert totals(entries, slots=4).seconds_left == pytest.approx(found.seconds_left / 2)  # two are left
    said = summary(found, 3.0)
    assert said.startswith("1 waiting · 1 running · 1 finished · 1 failed · ") and "10.50 spent" in said
    assert "3.50 device-hours" in said and said.endswith("left")


def test_a_run_that_waits_for_a_machine_says_why(entries):
    before = totals(entries, slots=1).seconds_left
    entries[1].state, entries[1].reason = "queued", "Priority"  # it has made way, halfway
    cells = drawn(table(entries, None))[2].split()
    assert cells[1] == "queued" and cells[-1] == "Priority" and "0:50" not in cells
    found = totals(entries, slots=1)
    assert found.seconds_left == before and summary(found, None).startswith("1 waiting · 1 queued · 1 finished")
    assert [entry.state for entry in visible(entries, 2)] == ["queued", "failed"]


def test_nothing_is_said_about_the_time_before_a_run_has_told_its_speed(entries):
    assert totals(entries[3:], 1).seconds_left is None and "left" not in summary(totals(entries[3:], 1), None)
    assert seconds_left(entries[3], entries[3].progress) is None
    assert totals(entries[:1], 1).seconds_left == 0


def test_a_small_terminal_shows_what_matters(entries):
    assert [entry.state for entry in visible(entries, 2)] == ["running", "failed"]
    assert [entry.state for entry in visible(entries, 3)] == ["running", "failed", "waiting"]
    assert visible(entries, 40) == entries


def test_lines_where_there_is_no_terminal(entries):
    console = Console(file=io.StringIO(), width=120)
    with Display(entries, 1, None, console) as display:
        display.update()
        entries[1].state = "failed"
        entries[1].reason = "exit code 2: the loss diverged"
        display.update()
        display.update()
    first, changed, last = console.file.getvalue().splitlines()
    assert first.startswith("4 runs: 1 waiting · 1 running") and last.startswith("1 waiting · 1 finished · 2 failed")
    assert changed == line(entries[1]) == (
        "d3_1e12_s1: failed, step 99 of 198: exit code 2: the loss diverged"
    )  # fmt: skip


def test_a_terminal_gets_one_table_that_is_redrawn(entries):
    console = Console(file=io.StringIO(), width=140, height=7, force_terminal=True, color_system=None)
    with Display(entries, 1, 3.0, console) as display:
        display.update()
    text = console.file.getvalue()
    assert "1 more not shown · 1 waiting" in text and "d3_1e12_s1" in text and "d2_1e12_s1" not in text


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (309, "5:09"), (3909, "1:05:09"), (360_000, "100:00:00")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown
