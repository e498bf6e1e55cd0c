"""Packing against an obvious, slow version of itself, and against the law that no token appears or vanishes."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.packing import Packing, PackingReport, Row, bestfit_crop, bestfit_pad, pack

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


windows = st.lists(st.integers(1, 40), max_size=30)


@given(windows, st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_bestfit_crop_equals_the_slow_version(lengths: list[int], row_len: int) -> None:
    documents = documents_of(lengths)
    rows, _ = pack(documents, row_len, BOS, "bestfit_crop")
    assert rows.dtype == np.int32 and rows.shape == (len(rows), row_len)
    assert rows.tolist() == slow_crop(documents, row_len)


@given(windows, st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_bestfit_pad_equals_the_slow_version(lengths: list[int], row_len: int) -> None:
    documents = documents_of(lengths)
    rows, _ = pack(documents, row_len, BOS, "bestfit_pad")
    assert rows.dtype == np.int32 and rows.shape == (len(rows), row_len)
    assert rows.tolist() == slow_pad(documents, row_len)


@given(windows, st.integers(2, 20), st.sampled_from(["bestfit_crop", "bestfit_pad"]))
@settings(max_examples=300, deadline=None)
def test_tokens_are_conserved_and_counted(lengths: list[int], row_len: int, packing: Packing) -> None:
    documents = documents_of(lengths)
    rows, report = pack(documents, row_len, BOS, packing)
    given_tokens = np.concatenate(documents).tolist() if documents else []
    out = rows.ravel().tolist()
    unique = [token for token in out if token not in (BOS, ~BOS)]
    assert len(unique) == len(set(unique)) and set(unique) <= set(given_tokens)
    assert all(row[0] == BOS for row in rows.tolist())
    padding = sum(token == ~BOS for token in out)
    whole = sum(set(document[1:].tolist()) <= set(unique) and len(document) > 1 for document in documents)
    assert report.tokens == len(given_tokens) and report.documents == len(documents) and report.rows == len(rows)
    assert report.padded == padding and report.kept == len(out) - padding
    assert report.cropped == report.tokens - report.kept >= 0
    assert report.shortened <= len(documents) - whole
    if packing == "bestfit_pad":
        assert report.shortened == sum(length > row_len for length in lengths)
        assert report.cropped == sum(max(0, length - row_len) for length in lengths)
    elif len(rows) > 1:
        assert padding == 0


def test_crop_fills_a_row_with_the_shortest_that_is_left() -> None:
    assert bestfit_crop([4, 7, 9], 10) == [(2, 9), (0, 1)]
    assert bestfit_crop([7, 4, 30], 10) == [(0, 7), (1, 3), (2, 10)]


def test_crop_drops_a_last_row_that_is_not_full_unless_it_is_the_only_one() -> None:
    assert bestfit_crop([10, 3], 10) == [(0, 10)]
    assert bestfit_crop([3], 10) == [(0, 3), (-1, 7)]
    assert bestfit_crop([], 10) == []


def test_pad_keeps_documents_whole_and_cuts_what_no_row_holds() -> None:
    assert bestfit_pad([6, 5, 4, 12], 10) == [(3, 10), (0, 6), (2, 4), (1, 5), (-1, 5)]
    assert bestfit_pad([10, 10], 10) == [(0, 10), (1, 10)]


def test_reports_add_up() -> None:
    documents = documents_of([5, 9, 30])
    one, two = (pack(documents, 8, BOS, packing)[1] for packing in ("bestfit_crop", "bestfit_pad"))
    both = one + two
    assert both == PackingReport(
        rows=one.rows + two.rows,
        tokens=88,
        kept=one.kept + two.kept,
        padded=one.padded + two.padded,
        documents=6,
        shortened=one.shortened + two.shortened,
    )
    assert both.cropped == one.cropped + two.cropped


@pytest.mark.parametrize("lengths", [[1] * 40_000, [600] * 40_000, list(range(1, 40_001))])
@pytest.mark.parametrize("plan", [bestfit_crop, bestfit_pad])
def test_cost_does_not_grow_with_the_square_of_the_documents(plan, lengths: list[int]) -> None:  # type: ignore[no-untyped-def]
    began = time.process_time()
    plan(lengths, 513)
    assert time.process_time() - began < 2.0  # about 0.1 s; 40,000 squared steps would be minutes
