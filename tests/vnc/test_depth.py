"""The knob, held against the reference table and the recipe's own numbers."""

import json
from pathlib import Path

import pytest
import torch

from vnc.config import GPTConfig
from vnc.depth import TrainingPlan, make_plan, model_config
from vnc.errors import UserError
from vnc.flops import count_parameters, estimate_memory, flops_per_token
from vnc.gpt import GPT
from vnc.plan_report import as_dict, as_table
from vnc.schedule import decay_multiplier, lr_multiplier, muon_momentum

# Figures of nanochat's July 2026 formulas: vocabulary 32,768, sequence 2,048, windows SSSL, aspect 64, head 128,
# ratio 12.
REFERENCE = json.loads((Path(__file__).parent / "depth_plan.json").read_text())


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: f"depth{row['depth']}")
def test_plan_reproduces_the_reference_table(row):
    planned = as_dict(make_plan(row["depth"]), mfu=0.4)
    assert {key: planned[key] for key in row} == row


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
@pytest.mark.parametrize("preset", ["modern", "gpt2"])
def test_parameter_counts_are_those_of_the_model(depth, preset):
    config = model_config(depth, preset=preset, vocab_size=1000)
    with torch.device("meta"):
        gpt = GPT(config)
    assert count_parameters(config).total == sum(p.numel() for p in gpt.parameters())


def test_classic_preset_is_gpt2_124m():
    plan = make_plan(preset="gpt2")
    padding = (plan.config.padded_vocab_size - 50_257) * 768
    assert count_parameters(plan.config).total - padding == 124_439_808  # Hugging Face's count of "gpt2"
    assert (plan.num_steps, plan.total_batch_tokens, plan.warmup_steps) == (19_531, 2**19, 715)
    assert plan.groups["embedding"].lr == 6e-4
    assert lr_multiplier(plan, 715) == 1.0
    assert lr_multiplier(plan, 19_531) == pytest.approx(0.1)


def test_horizon_is_decided_by_steps_then_flops_then_ratio():
    assert make_plan(4, num_steps=7, target_flops=1e18, param_data_ratio=20).num_steps == 7
    by_flops = make_plan(4, target_flops=1e16, param_data_ratio=20)
    assert by_flops.num_steps == round(1e16 / (by_flops.flops_per_token * by_flops.total_batch_tokens))
    by_ratio = make_plan(4, param_data_ratio=20)
    assert by_ratio.num_steps == by_ratio.target_tokens // by_ratio.total_batch_tokens
    # Batch and decay follow the ratio's horizon even when the steps are given.
    assert make_plan(4, num_steps=7).weight_decay == make_plan(4).weight_decay


def test_explicit_batch_overrides_only_the_batch():
    plan, given = make_plan(4), make_plan(4, total_batch_tokens=2**16)
    assert given.target_tokens == plan.target_tokens
    assert given.num_steps == plan.target_tokens // 2**16


@pytest.mark.parametrize(("depth", "rule"), [(4, 2**18), (12, 2**19)])
def test_rates_follow_the_root_of_a_batch_that_is_not_smaller_than_the_rules(depth, rule):
    plans = {batch: make_plan(depth, total_batch_tokens=batch) for batch in (2**14, 2**17, rule, 2**20, 2**22)}
    for batch, plan in plans.items():
        assert plan.batch_lr_scale == pytest.approx((max(batch, rule) / 2**19) ** 0.5, rel=1e-3)
        assert plan.groups["matrices"].lr == pytest.approx(0.02 * plan.batch_lr_scale)
        # What the weights remember, as a share of the run, stays the same (arXiv 2405.13698).
        memory = batch / (plan.groups["matrices"].lr * plan.weight_decay * plan.target_tokens)
        assert memory == pytest.approx(rule / (plans[rule].groups["matrices"].lr * plans[rule].weight_decay
                                               * plan.target_tokens))  # fmt: skip
    assert plans[rule] == make_plan(depth)
    further = make_plan(depth, config=plans[rule].config, total_batch_tokens=2**14)  # a model that has learnt already
    assert further.batch_lr_scale == pytest.approx((2**14 / 2**19) ** 0.5)


def test_short_runs_in_small_batches_have_larger_rates_up_to_the_references():
    def scale(share: float, **sizes: int) -> float:
        steps = round(share * make_plan(4, **sizes).target_tokens / 2**14)
        return make_plan(4, total_batch_tokens=2**14, num_steps=steps, **sizes).batch_lr_scale

    whole = make_plan(4).batch_lr_scale
    assert scale(1) == pytest.approx(whole, rel=1e-3) and scale(3) == whole  # not smaller ones in longer runs
    assert scale(1 / 2) == pytest.approx(whole * 2**0.32, rel=1e-3)
    assert scale(1 / 10) == scale(1 / 1000) == 1.0
    # Where the rule's batch is itself larger than the reference's, smaller batches have the reference's rates.
    deep = make_plan(24, total_batch_tokens=2**18)
    assert make_plan(24).batch_lr_scale > 1 and deep.batch_lr_scale == 1.0


def test_batch_is_split_over_processes():
    for world in (1, 2, 4, 8):
        plan = make_plan(12, world_size=world)
        assert plan.device_batch_size * plan.micro_batches * world == plan.rows_per_step
    assert make_plan(12, device_batch_size=8).micro_batches == 32


def test_depth_one_has_full_context():
    assert model_config(1).windows == (2048,)


def test_width_is_rounded_up_to_whole_heads():
    assert (model_config(3).n_embd, model_config(3).n_head) == (256, 2)


def test_plan_survives_json():
    for plan in (make_plan(4), make_plan(2, preset="gpt2")):
        assert TrainingPlan.from_dict(json.loads(json.dumps(plan.to_dict())), "plan.json") == plan


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(depth=0), "depth=0"),
        (dict(depth=4, num_steps=0), "num_steps=0"),
        (dict(depth=4, target_flops=1.0), "target_flops=1"),
        (dict(depth=4, param_data_ratio=1e-6), "param_data_ratio=1e-06"),
        (dict(depth=4, total_batch_tokens=1000), "total_batch_tokens=1000"),
        (dict(depth=4, device_batch_size=3), "device_batch_size=3"),
        (dict(depth=4, world_size=3), "3 processes"),
        (dict(depth=4, window_pattern="SX"), "window_pattern='SX'"),
        (dict(depth=4, head_dim=0), "head_dim=0"),
        (dict(depth=4, head_dim=3), "head_dim=3"),
        (dict(depth=4, vocab_size=0), "vocab_size=0"),
        (dict(depth=4, lr_scale=0.0), "lr_scale=0.0"),
        (dict(depth=4, target_flops=float("nan")), "target_flops=nan"),
    ],
)
def test_bad_values_are_named(arguments, named):
    with pytest.raises(UserError, match=named.replace("(", r"\(")):
        make_plan(**arguments)


def test_config_from_dict_names_unknown_and_missing_keys():
    with pytest.raises(UserError, match=r"here: .*unknown keys \['depht'\]"):
        GPTConfig.from_dict({"depht": 4}, "here")


def test_modern_schedule_at_its_corners():
    plan = make_plan(12)  # 2,520 steps, warm-down over 1,638
    assert lr_multiplier(plan, 0) == 1 / 40
    assert lr_multiplier(plan, 39) == 1.0
    assert lr_multiplier(plan, 882) == 1.0
    assert lr_multiplier(plan, 883) == pytest.approx(1637 / 1638 + (1 / 1638) * 0.05)
    assert lr_multiplier(plan, 2520) == pytest.approx(0.05)
    assert muon_momentum(plan, 0) == 0.85
    assert muon_momentum(plan, 200) == pytest.approx(0.91)
    assert muon_momentum(plan, 600) == 0.97
    assert muon_momentum(plan, 2520) == pytest.approx(0.90)
    assert decay_multiplier(plan, 0) == 1.0
    assert decay_multiplier(plan, 1260) == pytest.approx(0.5)
    assert decay_multiplier(plan, 2520) == pytest.approx(0.0)


def test_schedules_of_very_short_runs_are_finite():
    for steps in (1, 2, 5):
        plan = make_plan(4, num_steps=steps, warmup_steps=0)
        for step in range(steps + 1):
            assert 0 <= lr_multiplier(plan, step) <= 1
            assert 0.85 <= muon_momentum(plan, step) <= 0.97
            assert 0 <= decay_multiplier(plan, step) <= 1


def test_flops_by_hand():
    # Depth 2 at width 128: per layer 12 x 128^2 matrix parameters, head 128 x 64, value gate 12 x 1 on the last layer,
    # smear 24; attention 12 x 128 x window with windows 128 and 256.
    config = model_config(2, vocab_size=64, sequence_len=256)
    matrices = 2 * 12 * 128**2 + 64 * 128 + 12 + 24
    assert config.windows == (128, 256)
    assert flops_per_token(config) == 6 * matrices + 12 * 128 * (128 + 256)


def test_optimizer_state_is_shared_among_devices():
    config = model_config(12)
    one, eight = (estimate_memory(config, 8, world) for world in (1, 8))
    assert eight.optimizer_state == one.optimizer_state // 8
    assert eight.weights == one.weights


@pytest.mark.parametrize("depth, rows, measured", [(12, 16, 15_891), (12, 32, 26_214), (20, 8, 28_613)])
def test_memory_is_near_what_a_gpu_held(depth, rows, measured):
    """MiB, the most that an H200 held in training with compiled blocks before squared ReLU went into Hopper's products,
    as other GPUs have it still."""
    assert estimate_memory(model_config(depth), rows, 1).total / 2**20 == pytest.approx(measured, rel=0.08)


def test_table_states_the_plan():
    table = as_table(make_plan(12, world_size=8), 0.4)
    assert "286,261,730" in table and "time on 8 x H100" in table and "memory / device" in table
