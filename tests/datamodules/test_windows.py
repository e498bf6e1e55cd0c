"""Windows cover the documents of some shards once, evenly and in order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.parquet import open_shard, read_shards
from datamodules.windows import MANY_ROW_GROUPS, WINDOW_DOCUMENTS, TextWindows, cut
from vnc.errors import UserError

WriteShard = Callable[..., Path]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=200), st.sampled_from([1, 2, 8, 64]))
def test_windows_cover_all_documents_once_and_are_even(row_groups: list[int], lanes: int) -> None:
    total = sum(row_groups)
    if total < lanes:
        return
    starts = cut(row_groups, lanes)
    sizes = np.diff(starts)
    assert starts[0] == 0 and starts[-1] == total and sizes.min() >= 1
    if sum(rows > 0 for rows in row_groups) < MANY_ROW_GROUPS * lanes:
        assert len(sizes) % lanes == 0 and sizes.max() - sizes.min() <= 1
        assert len(sizes) == lanes or WINDOW_DOCUMENTS / 2 <= sizes.mean() <= 2 * WINDOW_DOCUMENTS
    else:
        assert set(np.cumsum(row_groups)) <= set(starts.tolist()) | {0}  # no window spans two row groups
        assert len(sizes) >= lanes and sizes.max() <= 2 * WINDOW_DOCUMENTS


@pytest.mark.parametrize("lanes", [1, 3, 40])
def test_windows_give_the_documents_in_order(corpus: Path, lanes: int, text: Callable[[int], str]) -> None:
    windows = TextWindows.of("corpus", read_shards(corpus)[0], lanes)
    assert windows.count % lanes == 0
    found = [document for window in range(windows.count) for document in windows.texts(window)]
    assert found == [text(number) for number in range(400)]


def test_empty_row_groups_are_passed_over(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "a.parquet", ["one", "", " \n ", "two"], row_group=1)
    write_shard(tmp_path / "b.parquet", [])
    write_shard(tmp_path / "c.parquet", ["three"])
    windows = TextWindows.of("texts", [open_shard(path) for path in sorted(tmp_path.iterdir())], 1)
    assert windows.count == 1 and windows.texts(0) == ["one", "", " \n ", "two", "three"]


def test_fewer_documents_than_lanes(tmp_path: Path, write_shard: WriteShard) -> None:
    shard = open_shard(write_shard(tmp_path / "a.parquet", ["one", "two"]))
    with pytest.raises(UserError, match="texts: 2 documents cannot fill 8 lanes.*--data.lanes"):
        TextWindows.of("texts", [shard], lanes=8)
