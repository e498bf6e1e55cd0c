"""Event files: growing ones are read as far as they are whole, damaged ones up to the damage, which is told."""

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from streamlit_app.event_files import read_scalars

VALUES = {"train/loss": [5.0, 4.5, 4.25], "val/bits_per_byte": [2.0, 1.5, 1.25]}


@pytest.fixture
def events(tmp_path: Path) -> Path:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            for tag, values in VALUES.items():
                writer.add_scalar(tag, values[step], step)
    (path,) = tmp_path.glob("events.out.tfevents.*")
    return path


def numbers(path: Path) -> tuple[list[float], list[str]]:
    """All values in the order of their steps, and the problems."""
    scalars, problems = read_scalars([path])
    return [value for points in scalars.values() for value in points.values()], problems


def test_what_tensorboard_writes_is_read(events: Path) -> None:
    assert read_scalars([events]) == ({tag: dict(enumerate(values)) for tag, values in VALUES.items()}, [])


def test_a_file_that_still_grows_is_read_as_far_as_it_goes(events: Path) -> None:
    whole = events.read_bytes()
    counts = []
    for length in range(len(whole) + 1):
        events.write_bytes(whole[:length])
        found, problems = numbers(events)
        assert problems == []
        counts.append(len(found))
    assert counts == sorted(counts) and set(counts) == set(range(7))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_damage_is_told_and_what_comes_before_is_kept(events: Path, share: float) -> None:
    whole = bytearray(events.read_bytes())
    before = numbers(events)[0]
    whole[int(share * len(whole))] ^= 0x40
    events.write_bytes(whole)
    found, (problem,) = numbers(events)
    assert len(found) < len(before) and set(found) <= set(before)
    assert problem.startswith(events.name) and "damaged at byte" in problem


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"<script>alert(1)</script>" * 10)
    assert read_scalars([path]) == ({}, [f"{path.name}: damaged at byte 0 of 250; what comes before is shown"])
