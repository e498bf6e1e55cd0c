"""The grid of a sweep: its runs, what is refused before anything starts, and what is said."""

import pytest

from scaling.sweep_plan import Grid, check_grid, edge_of, plan_runs, run_name, short, warnings
from vnc.depth import make_plan
from vnc.errors import UserError
from vnc.flops import count_parameters

TINY = dict(aspect_ratio=16, head_dim=16, sequence_len=256, window_pattern="L", total_batch_tokens=4096,
            warmup_steps=20)  # fmt: skip


def test_every_depth_at_every_budget_with_every_seed():
    runs = plan_runs(Grid((3, 2), (2e12, 1e12), (1, 2)), TINY, 1024)
    assert [run.name for run in runs] == [
        "d2_1e12_s1", "d2_1e12_s2", "d3_1e12_s1", "d3_1e12_s2",
        "d2_2e12_s1", "d2_2e12_s2", "d3_2e12_s1", "d3_2e12_s2",
    ]  # fmt: skip
    for run in runs:
        assert run.plan == make_plan(run.depth, target_flops=run.budget, vocab_size=1024, **TINY)
        assert run.plan.total_flops == pytest.approx(run.budget, rel=0.5 / run.plan.num_steps)
        parameters = count_parameters(run.plan.config).scaling(run.plan.config)
        assert run.ratio == run.plan.train_tokens / parameters


def test_a_number_of_steps_in_the_base_configuration_gives_way_to_the_budget():
    (run,) = plan_runs(Grid((2,), (1e12,), (1,)), TINY | dict(num_steps=7), 1024)
    assert run.plan.num_steps > 400


@pytest.mark.parametrize(
    ("flops", "name"), [(1e18, "1e18"), (2.5e12, "2.5e12"), (6e18, "6e18"), (123456.0, "1.23456e5")]
)
def test_budgets_in_names_are_short_and_exact(flops, name):
    assert short(flops) == name and float(name) == flops
    assert run_name(6, flops, 3) == f"d6_{name}_s3"


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (Grid((2, 2), (1e12,), (1,)), "depths: 2 twice"),
        (Grid((2,), (1e12, 2e12, 1e12), (1,)), "budgets: 1e12 twice"),
        (Grid((2,), (1e12,), (5, 5)), "seeds: 5 twice"),
        (Grid((), (1e12,), (1,)), "depths: give at least one"),
        (Grid((0,), (1e12,), (1,)), "depths: 0 must be at least 1"),
        (Grid((2,), (float("inf"),), (1,)), "budgets: inf"),
        (Grid((2,), (1e12,), (-1,)), "seeds: -1 must be 0 or more"),
    ],
)
def test_bad_grids_are_refused(grid, said):
    with pytest.raises(UserError, match=said):
        check_grid(grid)


def test_budgets_below_one_step_are_refused_all_at_once():
    with pytest.raises(UserError) as refused:
        plan_runs(Grid((2, 5), (1e9, 1e8, 1e12), (1,)), TINY, 1024)
    assert str(refused.value).startswith("depth 2 at 1e8: target_flops=1e+08: less than half of one step of 4,096")
    assert "(so are: depth 5 at 1e8, depth 2 at 1e9, depth 5 at 1e9)" in str(refused.value)


def test_a_plan_that_cannot_be_made_names_its_run():
    with pytest.raises(UserError, match="depth 2 at 1e12 FLOPs: total_batch_tokens=4000"):
        plan_runs(Grid((2,), (1e12,), (1,)), TINY | dict(total_batch_tokens=4000), 1024)


def test_a_grid_around_the_optimum_gives_no_warning():
    assert warnings(plan_runs(Grid((2, 3, 4, 5), (1e12, 2e12, 4e12), (1, 2)), TINY, 1024)) == []


def test_few_steps_few_depths_and_one_budget_are_said():
    (steps, warming, depths) = warnings(plan_runs(Grid((5, 6), (2e11,), (1, 2)), TINY, 1024))
    assert steps.startswith("depth 5 at 2e11, depth 6 at 2e11: take fewer than 20 steps (the least: 8)")
    assert warming.startswith("depth 5 at 2e11, depth 6 at 2e11: take no more steps than the warm-up's 20")
    assert depths == "fewer than 3 depths: a budget's optimum cannot be found between them"
    assert "one budget only" in " ".join(warnings(plan_runs(Grid((2, 3, 4), (1e12,), (1,)), TINY, 1024)))


def test_an_optimum_at_the_edge_is_said_with_the_way_out():
    def edge(depths, budget):
        return edge_of(plan_runs(Grid(depths, (budget,), (1,)), TINY, 1024))

    assert edge((2, 3, 4), 1e12) is None
    assert "below the smallest model: depth 3 trains on 6.14; add smaller ones" in edge((3, 4, 5), 1e12)
    assert "above the largest model: depth 4 trains on 12.9; add larger ones" in edge((2, 3, 4), 8e12)


def test_the_users_own_grid_reaches_too_few_parameters_for_its_largest_budgets():
    runs = plan_runs(Grid(tuple(range(6, 15)), (1e18, 2e18, 3e18, 6e18), (1337,)), {}, 32_768)
    assert len(runs) == 36 and sum(run.plan.total_flops for run in runs) == pytest.approx(9 * 1.2e19, rel=1e-3)
    assert [line.split(" FLOPs")[0] for line in warnings(runs)] == ["at 3e18", "at 6e18"]
