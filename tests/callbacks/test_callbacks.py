"""The callbacks' own decisions; whole runs are in tests/test_fit.py."""

from types import SimpleNamespace

import pytest

from callbacks import CheckpointWriter, Samples, StopGuard
from callbacks.checkpoint_writer import free_name, remove_partial
from callbacks.progress import clock
from vnc import checkpoint as files
from vnc.errors import UserError


def feed(guard, losses, first=0):
    for step, loss in enumerate(losses, first):
        trainer = SimpleNamespace(global_step=step + 1)
        guard.on_train_batch_end(trainer, None, {"loss": loss, "gradient_norm": 1.0}, None, step)


def test_a_loss_that_climbs_for_good_stops_the_run():
    with pytest.raises(UserError, match="diverged"):
        feed(StopGuard(max_rise=1.0, patience=5), [3.0] * 20 + [9.0] * 40)


def test_a_spike_does_not():
    guard = StopGuard(max_rise=1.0, patience=5)
    feed(guard, [3.0] * 20 + [9.0] * 2)
    assert guard.high_steps > 0
    feed(guard, [3.0] * 40)
    assert guard.high_steps == 0


def test_the_guard_remembers_over_a_resume():
    first, second = StopGuard(max_rise=1.0, patience=5), StopGuard(max_rise=1.0, patience=5)
    feed(first, [3.0] * 20)
    second.load_state_dict(first.state_dict())
    with pytest.raises(UserError, match="diverged"):
        feed(second, [9.0] * 40, first=20)


def test_settings_are_checked():
    for make in (lambda: StopGuard(patience=0), lambda: CheckpointWriter(keep_last=0), lambda: Samples(max_tokens=0)):
        with pytest.raises(UserError):
            make()


def test_prune_keeps_newest_last_and_best(tmp_path):
    for step in (10, 20, 30, 40, 100):
        (tmp_path / f"step_{step:08d}").mkdir()
    (tmp_path / "step_00000020.1").mkdir()
    (tmp_path / "notes").mkdir()
    files.point(tmp_path / "last", tmp_path / "step_00000100")
    files.point(tmp_path / "best", tmp_path / "step_00000010")
    CheckpointWriter(folder=str(tmp_path), keep_last=2).prune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best", "last", "notes", "step_00000010", "step_00000040", "step_00000100",
    ]  # fmt: skip


def test_repeated_steps_get_names_of_their_own(tmp_path):
    (tmp_path / "step_00000020").mkdir()
    (tmp_path / "step_00000020.1").mkdir()
    assert free_name(tmp_path, 20).name == "step_00000020.2"
    assert free_name(tmp_path, 21).name == "step_00000021"


def test_remains_of_a_killed_save_are_removed(tmp_path):
    (tmp_path / f"{files.PARTIAL}step_00000020-77").mkdir()
    (tmp_path / "step_00000010").mkdir()
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010"]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (309, "5:09"), (3909, "1:05:09")])
def test_clock(seconds, shown):
    assert clock(seconds) == shown
