"""Files that are being written are read whole or not at all, and nothing outside the folder is opened."""

import json
import os
import threading
from pathlib import Path

from streamlit_app.live_files import Unreadable, folders, read_json, stamp, whole_lines


def test_a_record_that_is_replaced_again_and_again_is_always_whole(tmp_path: Path) -> None:
    path, stop = tmp_path / "run.json", threading.Event()
    path.write_text(json.dumps({"rows": [0] * 5_000}))

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            aside = tmp_path / ".run.json"
            aside.write_text(json.dumps({"rows": [number] * 5_000}))
            os.replace(aside, path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            found = read_json(path)
            assert not isinstance(found, Unreadable) and len(set(found["rows"])) == 1
    finally:
        stop.set()
        writer.join()


def test_a_file_that_is_whole_a_moment_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"status": "run')
    timer = threading.Timer(0.02, lambda: path.write_text('{"status": "running"}'))
    timer.start()
    assert read_json(path) == {"status": "running"}
    timer.join()


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    contents = {
        "cut.json": ('{"a": [1,', "cut.json: not JSON"),
        "list.json": ("[1]", "list.json: holds no JSON object"),
        "deep.json": ("[" * 200_000, "deep.json: "),
        "bytes.json": ("\x00\x01", "bytes.json: not JSON"),
    }
    for name, (text, reason) in contents.items():
        (tmp_path / name).write_text(text)
        found = read_json(tmp_path / name)
        assert isinstance(found, Unreadable) and found.reason.startswith(reason)
    found = read_json(tmp_path / "absent.json")
    assert found == Unreadable("absent.json: No such file or directory")


def test_an_unfinished_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,2\n2,3.1")
    assert whole_lines(path) == b"step,a\n1,2\n"


def test_stamps_change_when_a_file_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamp(path) == (None,)
    path.write_text("a")
    before = stamp(path)
    path.write_text("ab")
    assert stamp(path) != before


def test_neither_links_nor_hidden_files_nor_checkpoints_are_searched(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "runs"
    for folder in (outside, root / "a" / "checkpoints" / "last", root / ".hidden", root / "b"):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (root / "linked").symlink_to(outside)
    (root / "b" / "linked.json").symlink_to(outside / "run.json")
    (root / "b" / ".run.json").write_text("{}")
    found = {folder.relative_to(root).as_posix(): files for folder, files in folders(root)}
    assert found == {".": (), "a": (), "b": ("run.json",)}
