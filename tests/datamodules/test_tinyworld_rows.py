"""TinyWorld as a data module: it never repeats, it always says the same, and its floor belongs to its validation."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import TinyWorld
from datamodules.tinyworld import STORY_EVERY, VALIDATION_BOOK, WINDOW_DOCUMENTS
from vnc.conversation import parse, render
from vnc.errors import UserError
from vnc.rows import inputs_and_targets
from vnc.tinyworld.stories import story

Attach = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tinyworld"))


def world(folder: str, content: Any = "stories", **options: Any) -> TinyWorld:
    return TinyWorld(content, vocab_size=512, data_dir=folder, **options)


def rows_of(data: Any) -> list[Any]:
    return [row for batch in data.train_dataloader() for row in batch.rows.flatten(0, 1).tolist()]


def test_the_same_seed_tells_the_same_stories_and_another_seed_others(folder: str, attach: Attach) -> None:
    one, again, other = (attach(world(folder, seed=seed), sequence_len=256, num_steps=3) for seed in (1, 1, 2))
    assert rows_of(one) == rows_of(again)
    assert not {tuple(row) for row in rows_of(one)} & {tuple(row) for row in rows_of(other)}


def test_no_document_comes_twice(folder: str, attach: Attach) -> None:
    data = attach(world(folder, lanes=2))
    assert data.train_windows.count == 2
    texts = [data.tokenizer.decode(document) for epoch in range(2) for window in range(2)
             for document in data.train_windows.documents(epoch, window)]  # fmt: skip
    assert len(set(texts)) == len(texts) == 4 * WINDOW_DOCUMENTS
    assert texts[WINDOW_DOCUMENTS] == f"<|bos|>{story(WINDOW_DOCUMENTS, data.seed).text}"


def test_rows_of_stories_are_full_and_all_learnt(folder: str, attach: Attach) -> None:
    data = attach(world(folder), sequence_len=256, num_steps=2)
    for batch in data.train_dataloader():
        inputs, targets = inputs_and_targets(batch.rows)
        assert (inputs[..., 0] == data.tokenizer.bos_id).all() and (targets >= 0).all()


def test_chat_learns_what_the_assistant_says_and_keeps_telling_stories(folder: str, attach: Attach) -> None:
    data = attach(world(folder, "chat"))
    documents, tokenizer = list(data.train_windows.documents(0, 0)), data.tokenizer
    stories = [document for document in documents if tokenizer.special("<|im_start|>") not in np.abs(document)
               and ~np.int32(tokenizer.special("<|im_start|>")) not in document]  # fmt: skip
    assert len(stories) == WINDOW_DOCUMENTS // STORY_EVERY
    chats = [document for document in documents if not any(document is one for one in stories)]
    for document in chats:
        ids = np.where(document < 0, ~document, document).tolist()
        again, learn = render(parse(ids, tokenizer), tokenizer)
        assert again == ids and (document >= 0).tolist() == learn and any(learn)
    pretraining = attach(world(folder)).train_windows
    known = {tuple(document.tolist()) for window in range(4) for document in pretraining.documents(0, window)}
    assert not known & {tuple(document.tolist()) for document in stories}


def test_chat_rows_hold_whole_documents(folder: str, attach: Attach) -> None:
    data = attach(world(folder, "chat"), sequence_len=1024, rows=4, num_steps=2)
    bos = data.tokenizer.bos_id
    documents = {
        tuple(document.tolist()) for window in range(8) for document in data.train_windows.documents(0, window)
    }
    for row in rows_of(data):
        starts = [place for place, token in enumerate(row) if token in (bos, ~bos)]
        pieces = [tuple(row[start:end]) for start, end in zip(starts, [*starts[1:], len(row)], strict=True)]
        assert {piece for piece in pieces if piece != (~bos,)} <= documents


def test_validation_holds_the_very_stories_of_the_floor(folder: str, attach: Attach) -> None:
    data = attach(world(folder, val_tokens=5000), sequence_len=512)
    rows, tokenizer = data.validation_rows(), data.tokenizer
    assert rows.shape[1] == 513
    texts = {piece for row in rows for piece in tokenizer.decode(row[row >= 0]).split("<|bos|>") if piece}
    stories = [story(index, VALIDATION_BOOK) for index in range(len(texts))]
    assert texts == {one.text for one in stories}
    assert 5000 <= sum(len(tokenizer.encode(one.text)) + 1 for one in stories) < 6000
    floor = sum(one.bits for one in stories) / sum(len(one.text.encode()) for one in stories)
    assert data.entropy_floor == pytest.approx(floor, rel=1e-12)


def test_validation_is_the_same_for_every_seed(folder: str, attach: Attach) -> None:
    one, other = (attach(world(folder, seed=seed, val_tokens=3000)) for seed in (1, 2))
    assert one.validation_rows().tolist() == other.validation_rows().tolist()


def test_there_is_no_floor_where_stories_are_not_whole_or_not_alone(folder: str, attach: Attach) -> None:
    assert attach(world(folder, val_tokens=3000), sequence_len=32).entropy_floor is None
    assert attach(world(folder, "chat", val_tokens=3000), sequence_len=512).entropy_floor is None


def test_chat_validates_on_conversations_alone(folder: str, attach: Attach) -> None:
    data = attach(world(folder, "chat", val_tokens=3000), sequence_len=512)
    assert data.chat and not world(folder).chat
    targets = [inputs_and_targets(batch.rows)[1] for batch in data.val_dataloader()]
    learnt = sum(int((target >= 0).sum()) for target in targets)
    assert 0 < learnt < 0.8 * 3000


def test_resume_goes_on_in_the_book_and_refuses_another(folder: str, attach: Attach) -> None:
    whole = rows_of(attach(world(folder, lanes=2), rows=8, num_steps=12))
    first = attach(world(folder, lanes=2), rows=8, num_steps=9)
    for batch in first.train_dataloader():
        first.on_after_batch_transfer(batch, 0)
    resumed, other = world(folder, lanes=2), world(folder, "chat", lanes=2)
    for data in (resumed, other):
        data.load_state_dict(first.state_dict())
    assert rows_of(attach(resumed, rows=8, num_steps=12, global_step=9)) == whole[72:]
    with pytest.raises(UserError, match=r"content was stories|packing was bestfit_split"):
        attach(other).train_dataloader()


def _prepare(folder: str) -> None:
    TinyWorld(vocab_size=300, data_dir=folder).prepare_data()


def test_processes_that_prepare_at_once_leave_one_whole_vocabulary(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_prepare, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*.json")] == ["tokenizer.json"]
    alone = tmp_path / "alone"
    _prepare(str(alone))
    found = {path.read_bytes() for path in tmp_path.rglob("tokenizer.json")}
    assert len(found) == 1


def test_unknown_content_is_refused() -> None:
    with pytest.raises(UserError, match="content='poems'"):
        TinyWorld("poems")  # type: ignore[arg-type]
