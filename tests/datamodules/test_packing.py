"""Packing against an obvious, slow version of itself, and against the law that no token appears or vanishes."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.bestfit import bestfit_crop, bestfit_pad, bestfit_split
from datamodules.documents import Documents
from datamodules.packing import Packing, PackingReport, Row, pack

BOS = 999


def documents_of(lengths: list[int]) -> list[Row]:
    """Documents in which every token but BOS is unique; every third token is read but not learnt."""
    documents, next_token = [], 1000
    for length in lengths:
        tokens = np.arange(next_token, next_token + length, dtype=np.int32)
        tokens[1::3] = ~tokens[1::3]
        tokens[0] = BOS
        documents.append(tokens)
        next_token += length
    return documents


def slow_crop(documents: list[Row], row_len: int) -> list[list[int]]:
    left, rows = list(enumerate(documents)), []
    while left:
        row: list[int] = []
        while len(row) < row_len and left:
            space = row_len - len(row)
            fitting = [one for one in left if len(one[1]) <= space]
            if fitting:
                chosen = max(fitting, key=lambda one: (len(one[1]), -one[0]))
            else:
                chosen = min(left, key=lambda one: (len(one[1]), -one[0]))
            left = [one for one in left if one[0] != chosen[0]]
            row += chosen[1][:space].tolist()
        rows.append(row)
    if rows and len(rows[-1]) < row_len:
        if len(rows) > 1:
            rows.pop()
        else:
            rows[-1] += [~BOS] * (row_len - len(rows[-1]))
    return rows


def slow_pad(documents: list[Row], row_len: int) -> list[list[int]]:
    left, rows = [(number, document[:row_len]) for number, document in enumerate(documents)], []
    while left:
        row: list[int] = []
        while fitting := [one for one in left if len(one[1]) <= row_len - len(row)]:
            chosen = max(fitting, key=lambda one: (len(one[1]), -one[0]))
            left = [one for one in left if one[0] != chosen[0]]
            row += chosen[1].tolist()
        rows.append(row + [~BOS] * (row_len - len(row)))
    return rows


def slow_split(documents: list[Row], row_len: int) -> list[list[int]]:
    """Tokens in lists: whole rows of long documents first, then best fit with the rest of a cut one opening a row."""
    rows: list[list[int]] = []
    left: list[tuple[int, list[int]]] = []
    for number, document in enumerate(documents):
        rest = document.tolist()
        while len(rest) > row_len:
            rows.append(rest[:row_len])
            rest = [BOS, *rest[row_len:]]
        left.append((number, rest))
    row: list[int] = []
    while left:
        space = row_len - len(row)
        fitting = [one for one in left if len(one[1]) <= space]
        chosen = max(fitting or left, key=lambda one: (len(one[1]), -one[0]))
        left.remove(chosen)
        tokens = chosen[1]
        if not fitting:
            rows.append(row + tokens[:space])
            row, tokens = [], tokens if space == 1 else [BOS, *tokens[space:]]
        row = row + tokens
        if len(row) == row_len:
            rows.append(row)
            row = []
    if row and rows:
        for document in documents:
            row += document.tolist()[: row_len - len(row)]
    if row:
        rows.append(row + [~BOS] * (row_len - len(row)))
    return rows


def slow_concat(documents: list[Row], row_len: int) -> list[list[int]]:
    stream = [token for document in documents for token in document.tolist()]
    if not stream:
        return []
    if len(stream) <= row_len:
        return [stream + [~BOS] * (row_len - len(stream))]
    rows = [stream[at : at + row_len] for at in range(0, len(stream) - 1, row_len - 1)]
    return rows if len(rows[-1]) == row_len else [*rows[:-1], stream[-row_len:]]


SLOW = {"bestfit_split": slow_split, "bestfit_crop": slow_crop, "bestfit_pad": slow_pad, "concat": slow_concat}
PACKINGS: list[Packing] = ["bestfit_split", "bestfit_crop", "bestfit_pad", "concat"]
windows = st.lists(st.integers(1, 40), max_size=30)


@given(windows, st.integers(2, 20), st.sampled_from(PACKINGS))
@settings(max_examples=1000, deadline=None)
def test_each_packing_equals_its_slow_version(lengths: list[int], row_len: int, packing: Packing) -> None:
    documents = documents_of(lengths)
    rows, _ = pack(Documents.of(documents), row_len, BOS, packing)
    assert rows.dtype == np.int32 and rows.shape == (len(rows), row_len)
    assert rows.tolist() == SLOW[packing](documents, row_len)


@given(windows, st.integers(2, 20), st.sampled_from(PACKINGS))
@settings(max_examples=1000, deadline=None)
def test_tokens_are_conserved_and_counted(lengths: list[int], row_len: int, packing: Packing) -> None:
    documents = documents_of(lengths)
    rows, report = pack(Documents.of(documents), row_len, BOS, packing)
    given_tokens = np.concatenate(documents).tolist() if documents else []
    out = rows.ravel().tolist()
    said = [token for token in out if token not in (BOS, ~BOS)]
    assert set(said) <= set(given_tokens)
    if packing != "concat":
        assert all(row[0] == BOS for row in rows.tolist())
    padding = sum(token == ~BOS for token in out)
    assert report.tokens == len(given_tokens) and report.documents == len(documents) and report.rows == len(rows)
    assert report.padded == padding and report.cells == len(out) == report.kept + report.repeated + report.padded
    assert report.cropped == report.tokens - report.kept >= 0
    whole = sum(set(document[1:].tolist()) <= set(said) and len(document) > 1 for document in documents)
    assert report.shortened <= len(documents) - whole
    if packing in ("bestfit_split", "concat"):
        assert report.cropped == report.shortened == 0
        assert set(said) == set(given_tokens) - {BOS}  # nothing is lost
        assert padding == 0 or len(rows) == 1
    else:
        assert len(said) == len(set(said)) and report.repeated == 0  # nothing twice
    if packing == "bestfit_pad":
        assert report.shortened == sum(length > row_len for length in lengths)
        assert report.cropped == sum(max(0, length - row_len) for length in lengths)
    elif len(rows) > 1:
        assert padding == 0


@given(windows, st.integers(2, 20))
@settings(max_examples=300, deadline=None)
def test_a_split_or_concatenated_window_has_every_token_as_a_target(lengths: list[int], row_len: int) -> None:
    """All but the documents' BOS; in `concat`, those too, but for the first."""
    documents = Documents.of(documents_of(lengths))
    everything = set(documents.tokens.tolist()) - {BOS}
    for packing in ("bestfit_split", "concat"):
        rows, _ = pack(documents, row_len, BOS, packing)  # type: ignore[arg-type]
        assert set(rows[:, 1:].ravel().tolist()) - {BOS, ~BOS} == everything


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32])
@pytest.mark.parametrize("packing", PACKINGS)
def test_rows_keep_the_dtype_of_the_tokens_unless_they_are_padded(packing: Packing, dtype: type) -> None:
    lengths = [5, 9, 30, 0, 4]
    tokens = np.arange(sum(lengths), dtype=dtype) + dtype(1000)
    documents = Documents(tokens, np.cumsum([0, *lengths]))
    rows, report = pack(documents, 8, BOS, packing)
    assert rows.dtype == (np.int32 if report.padded else dtype) and report.documents == 4
    assert report.padded == 0 or packing == "bestfit_pad"
    only, report = pack(Documents(tokens[:5], np.array([0, 5])), 8, BOS, packing)
    assert only.tolist() == [[*range(1000, 1005), ~BOS, ~BOS, ~BOS]] and report.padded == 3


def test_split_cuts_the_longest_and_goes_on_behind_a_bos() -> None:
    assert bestfit_split([25], 10) == [(0, 0, 10), (0, 10, 10), (0, 19, 7), (0, 0, 3)]
    assert bestfit_split([9, 8, 4], 10) == [(0, 0, 9), (1, 0, 1), (1, 0, 8), (2, 0, 2), (2, 2, 3), (0, 0, 7)]
    assert bestfit_split([6, 7], 10) == [(1, 0, 7), (0, 0, 3), (0, 3, 4), (0, 0, 6)]
    assert bestfit_split([3], 10) == [(0, 0, 3), (-1, 0, 7)]
    assert bestfit_split([], 10) == []


def test_crop_fills_a_row_with_the_shortest_that_is_left() -> None:
    assert bestfit_crop([4, 7, 9], 10) == [(2, 0, 9), (0, 0, 1)]
    assert bestfit_crop([7, 4, 30], 10) == [(0, 0, 7), (1, 0, 3), (2, 0, 10)]


def test_crop_drops_a_last_row_that_is_not_full_unless_it_is_the_only_one() -> None:
    assert bestfit_crop([10, 3], 10) == [(0, 0, 10)]
    assert bestfit_crop([3], 10) == [(0, 0, 3), (-1, 0, 7)]
    assert bestfit_crop([], 10) == []


def test_pad_keeps_documents_whole_and_cuts_what_no_row_holds() -> None:
    assert bestfit_pad([6, 5, 4, 12], 10) == [(3, 0, 10), (0, 0, 6), (2, 0, 4), (1, 0, 5), (-1, 0, 5)]
    assert bestfit_pad([10, 10], 10) == [(0, 0, 10), (1, 0, 10)]


def test_reports_add_up_and_subtract() -> None:
    documents = Documents.of(documents_of([5, 9, 30]), left_out=3)
    one, two = (pack(documents, 8, BOS, packing)[1] for packing in ("bestfit_crop", "bestfit_pad"))  # type: ignore[arg-type]
    both = one + two
    assert both == PackingReport(
        rows=one.rows + two.rows,
        cells=one.cells + two.cells,
        tokens=88,
        kept=one.kept + two.kept,
        repeated=0,
        padded=one.padded + two.padded,
        documents=6,
        shortened=one.shortened + two.shortened,
        left_out=6,
    )
    assert both.cropped == one.cropped + two.cropped and both - two == one
    assert two.shares() == {"cropped": 23 / 44, "repeated": 0.0, "padded": 3 / 24, "left_out": 0.5}


@pytest.mark.parametrize("lengths", [[1] * 40_000, [600] * 40_000, list(range(1, 40_001))])
@pytest.mark.parametrize("plan", [bestfit_crop, bestfit_pad, bestfit_split])
def test_cost_does_not_grow_with_the_square_of_the_documents(plan, lengths: list[int]) -> None:  # type: ignore[no-untyped-def]
    began = time.process_time()
    plan(lengths, 513)
    assert time.process_time() - began < 2.0  # about 0.1 s; 40,000 squared steps would be minutes
