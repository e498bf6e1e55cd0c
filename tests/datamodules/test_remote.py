"""Shards on a server give the texts of the same files on this machine, whatever goes wrong on the way, or one line."""

import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import parquet, remote, stores
from datamodules.parquet import Shard, identity, read_shards, read_texts
from datamodules.recent import RECENT
from datamodules.remote import expand_braces
from tests.datamodules.http_server import FileServer, HubServer, S3Server
from vnc.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again:UserWarning")

WriteShard = Callable[..., Path]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts, and nothing in memory from another test."""
    monkeypatch.setattr(remote, "WAITS", (0.0,) * 5)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    RECENT.forget()


@pytest.fixture(scope="module")
def files(corpus: Path) -> dict[str, bytes]:
    return {f"data/{path.name}": path.read_bytes() for path in sorted(corpus.glob("*.parquet"))}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[FileServer]:
    with FileServer(files) as running:
        yield running


def pattern(server: FileServer) -> str:
    return f"{server.url}/data/shard_{{0..2}}.parquet"


def s3_url(server: S3Server, user: str = "key:secret@") -> str:
    return f"s3://{user}data?scheme=http&endpoint_override={server.host}&region=us-east-1"


def refused(match: str) -> Any:
    """The error is a UserError of one line that matches."""
    return pytest.raises(UserError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def texts_of(training: tuple[Shard, ...], validation: Shard, threads: int = 1) -> list[list[str]]:
    groups = [(shard, group) for shard in (*training, validation) for group in range(len(shard.row_groups))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda each: read_texts(*each), groups))


def manifest(files: dict[str, bytes]) -> bytes:
    """As `vnc prepare` writes it, in the parts that matter here."""
    shards = [
        {"name": Path(name).name, "rows": 1, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    whole = {"format": 1, "dataset": "text", "source": "here", "settings": {}, "left_out": {}, "documents": 460}
    return json.dumps(whole | {"shards": shards}).encode()


@contextmanager
def served(kind: str, files: dict[str, bytes]) -> Iterator[tuple[str, FileServer | None]]:
    """The same files behind a URL of each kind."""
    if kind == "s3":
        with S3Server(files) as s3:
            yield s3_url(s3), s3
    elif kind == "memory":
        import fsspec  # type: ignore[import-untyped]

        for name, content in files.items():
            fsspec.filesystem("memory").pipe_file(f"/{name}", content)
        yield "memory://data", None
    else:
        with FileServer(files | {"data/manifest.json": manifest(files)}) as http:
            yield (f"{http.url}/data" if kind == "folder" else pattern(http)), http


# ---- the same texts


@pytest.mark.parametrize("kind", ["names", "folder", "s3", "memory"])
def test_texts_are_those_of_the_local_files(kind: str, corpus: Path, files: dict[str, bytes]) -> None:
    with served(kind, files) as (url, _):
        training, validation = read_shards(url)
        assert [shard.name for shard in training] == ["shard_0.parquet", "shard_1.parquet"]
        assert [shard.row_groups for shard in training] == [(50,) * 4] * 2 and validation.row_groups == (50, 10)
        assert validation.size == len(files["data/shard_2.parquet"])
        assert texts_of(training, validation) == texts_of(*read_shards(corpus))


def test_file_urls_are_read(corpus: Path) -> None:
    assert texts_of(*read_shards(f"file://{corpus}")) == texts_of(*read_shards(corpus))


def text_columns(folder: Path) -> int:
    """Bytes of the text column in all row groups of all files."""
    found = [pq.read_metadata(path) for path in folder.glob("*.parquet")]
    return sum(each.row_group(group).column(1).total_compressed_size for each in found
               for group in range(each.num_row_groups))  # fmt: skip


HUB_READER = """
import json, sys
from datamodules.parquet import identity, read_shards, read_texts
training, validation = read_shards(sys.argv[1])
shards = [*training, validation]
texts = [read_texts(shard, group) for shard in shards for group in range(len(shard.row_groups))]
print(json.dumps([str(validation), identity(shards), texts]))
"""


@pytest.mark.parametrize("revision", ["", "@v1"])
def test_the_hub_is_read_at_one_commit(revision: str, corpus: Path, files: dict[str, bytes]) -> None:
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    commit = "c" * 40
    with HubServer({f"{commit}/sample/10BT/{Path(name).name}": content for name, content in files.items()}) as hub:
        hub.heads = {"v1" if revision else "main": commit}
        hub.faults = [] if revision else ["500", "short", "damaged"]
        url = f"hf://datasets/someone/texts{revision}/sample/10BT"
        ended = subprocess.run(
            [sys.executable, "-c", HUB_READER, url],
            env=os.environ | {"HF_ENDPOINT": hub.url, "PYTHONPATH": str(Path(remote.__file__).parents[1])},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert all(commit in sent.path for sent in hub.sent(".parquet"))
        if not hub.faults and revision:
            ends = sum(min(2**16, len(content)) for content in files.values())
            assert sum(sent.bytes for sent in hub.sent(".parquet")) == ends + text_columns(corpus)
    location, found, texts = json.loads(ended.stdout)
    assert location == f"{url}/shard_2.parquet"
    assert texts == texts_of(*read_shards(corpus))
    assert found["shard_2.parquet"].endswith(f"sha256 {hashlib.sha256(files['data/shard_2.parquet']).hexdigest()}")


@pytest.mark.parametrize("kind, method", [("names", "fork"), ("s3", "fork"), ("s3", "spawn")])
def test_another_process_reads_on(kind: str, method: str, corpus: Path, files: dict[str, bytes]) -> None:
    """As a DataLoader's worker does: the parent has open connections, the child makes its own."""
    with served(kind, files) as (url, _):
        training, validation = read_shards(url)
        assert read_texts(training[0], 0)
        context: Any = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            assert pool.apply_async(texts_of, (training, validation)).get(60) == texts_of(*read_shards(corpus))


def test_shards_can_be_pickled(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    shards = read_shards(pattern(server), cache_dir=tmp_path)
    assert texts_of(*pickle.loads(pickle.dumps(shards))) == texts_of(*read_shards(corpus))


# ---- what travels


def test_a_row_group_costs_its_column_chunk(server: FileServer, files: dict[str, bytes], tmp_path: Path) -> None:
    training, _ = read_shards(pattern(server))
    before = len(server.log)
    read_texts(training[0], 2, 10, 20)
    read_texts(training[0], 2, 20, 30)
    (sent,) = server.log[before:]
    (tmp_path / "a.parquet").write_bytes(files["data/shard_0.parquet"])
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(2).column(1)
    assert column.path_in_schema == "text" and sent.bytes == column.total_compressed_size


def test_a_footer_costs_the_end_of_the_file(server: FileServer, write_shard: WriteShard, tmp_path: Path) -> None:
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnop", k=400)) for _ in range(1500)]
    server.files["data/shard_0.parquet"] = write_shard(tmp_path / "a.parquet", words, row_group=500).read_bytes()
    assert len(server.files["data/shard_0.parquet"]) > 400_000
    read_shards(pattern(server))
    assert sum(sent.bytes for sent in server.sent("shard_0.parquet")) <= 2**16 + 1


def test_several_row_groups_are_on_their_way_at_once(server: FileServer, corpus: Path) -> None:
    training, validation = read_shards(pattern(server))
    server.busiest, server.choose = 0, lambda asked: "slow"
    assert texts_of(training, validation, threads=10) == texts_of(*read_shards(corpus))
    assert server.busiest >= 5


def test_threads_that_want_one_row_group_fetch_it_once(server: FileServer) -> None:
    training, _ = read_shards(pattern(server))
    before, server.choose = len(server.log), lambda asked: "slow"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda first: read_texts(training[0], 1, first, first + 1), range(8)))
    assert found == [[text] for text in read_texts(training[0], 1, 0, 8)] and len(server.log) == before + 1


def test_only_the_first_shards_are_looked_at(server: FileServer) -> None:
    training, validation = read_shards(pattern(server), max_shards=2)
    assert [shard.name for shard in (*training, validation)] == ["shard_0.parquet", "shard_1.parquet"]
    assert not server.sent("shard_2.parquet")


# ---- faults

FAULTS = ["500", "503", "429", "cut", "short", "shorter", "shifted", "damaged", "slow"]
# Arrow's client waits for seconds before it repeats the others itself.
QUICK_ON_S3 = {"short", "shorter", "damaged"}


@pytest.mark.parametrize("kind", ["names", "s3"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), faults=st.sets(st.sampled_from(FAULTS), min_size=1), threads=st.integers(1, 8))
def test_no_fault_changes_a_text(
    kind: str,
    corpus: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    faults: set[str],
    threads: int,
) -> None:
    monkeypatch.setattr(remote, "WAITS", (0.0,) * 40)
    monkeypatch.setattr(stores, "STALL_SECONDS", 0.2)
    expected = texts_of(*read_shards(corpus))
    draw, seen = random.Random(seed), Counter[str]()
    possible = sorted(faults if kind == "names" else faults & QUICK_ON_S3) or ["short"]

    def choose(asked: str) -> str:
        seen[asked] += 1
        # Every second answer, so that no file is damaged twice, which would be taken for a damaged file.
        return draw.choice(possible) if seen[asked] % 2 else ""

    with served(kind, files) as (url, server):
        assert server is not None
        RECENT.forget()
        server.choose = choose
        training, validation = read_shards(url)
        assert texts_of(training, validation, threads) == expected


@pytest.mark.parametrize("fault", ["500", "cut", "short", "shorter", "shifted", "slow"])
def test_a_fault_that_stays_is_one_line_after_the_last_attempt(
    fault: str, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "STALL_SECONDS", 0.1)
    training, _ = read_shards(pattern(server))
    before, server.choose = len(server.log), lambda asked: fault
    with refused(rf"http://{server.host}/data/shard_1.parquet, row group 3: 6 attempts failed.*vnc prepare"):
        read_texts(training[1], 3)
    assert len(server.log) == before + 6 or fault == "slow"  # which is noted when it ends
    server.choose = lambda asked: ""
    assert len(read_texts(training[1], 3)) == 50


def test_s3_answers_that_lack_a_byte_are_not_taken_for_whole(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither compression nor checksums would show it: Arrow itself fills up with whatever the memory holds."""
    monkeypatch.setattr(remote, "WAITS", ())
    table = pa.table({"text": [f"{number} " * 40 for number in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, column_encoding="PLAIN")
    with S3Server(files | {"data/shard_0.parquet": (tmp_path / "a.parquet").read_bytes()}) as s3:
        training, _ = read_shards(s3_url(s3))
        s3.choose = lambda asked: "short"
        with refused("shard_0.parquet, row group 0: 1 attempts failed, the last with OSError: fewer than"):
            read_texts(training[0], 0)
        s3.choose = lambda asked: ""
        assert read_texts(training[0], 0) == table.column("text").to_pylist()


@pytest.mark.parametrize("fault", ["404", "403"])
def test_what_is_final_is_not_asked_again(fault: str, server: FileServer) -> None:
    training, _ = read_shards(pattern(server))
    before, server.faults = len(server.log), [fault]
    with refused(rf"shard_0.parquet, row group 0: not to be had \(HTTP status {fault}\)"):
        read_texts(training[0], 0)
    assert len(server.log) == before + 1


def test_a_file_damaged_on_the_server_is_fetched_twice(server: FileServer) -> None:
    training, _ = read_shards(pattern(server))
    before, server.choose = len(server.log), lambda asked: "damaged"
    with refused(r"shard_0.parquet, row group 0: cannot be read"):
        read_texts(training[0], 0)
    assert len(server.log) == before + 2


def test_a_server_that_is_not_there(files: dict[str, bytes]) -> None:
    with FileServer(files) as gone:
        url = pattern(gone)
    with refused(r"shard_0.parquet: 6 attempts failed, the last with Client"):
        read_shards(url)


def test_a_server_without_ranges_is_refused(server: FileServer) -> None:
    server.choose = lambda asked: "whole"
    with refused("shard_0.parquet: the server does not answer Range requests"):
        read_shards(pattern(server))


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize("kind", ["names", "s3"])
def test_a_file_that_changes_on_the_server_is_refused(kind: str, same_size: bool, files: dict[str, bytes]) -> None:
    """Even if the other version's bytes would decode: `same_size` exchanges two words."""
    with served(kind, files) as (url, server):
        assert server is not None
        training, _ = read_shards(url)
        assert read_texts(training[0], 0)
        old = files["data/shard_0.parquet"]
        server.files["data/shard_0.parquet"] = old[:-1] + b"2" if same_size else files["data/shard_1.parquet"]
        with refused("shard_0.parquet: changed on the server while in use"):
            read_texts(training[0], 1)


# ---- what a user may get wrong


def test_a_row_group_too_large_to_stream(
    server: FileServer, tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "LARGEST_REMOTE_GROUP", 60)
    path = write_shard(tmp_path / "a.parquet", ["text"] * 61, row_group=100)
    server.files["data/shard_1.parquet"] = path.read_bytes()
    with refused("shard_1.parquet: a row group of 61 documents.*vnc prepare"):
        read_shards(pattern(server))
    assert parquet.open_shard(path).documents == 61  # local files may be so


def test_shards_come_in_order_of_name(server: FileServer) -> None:
    training, validation = read_shards(f"{server.url}/data/shard_{{2,0,1}}.parquet")
    assert [shard.name[6] for shard in (*training, validation)] == ["0", "1", "2"]


def test_one_name_in_two_folders(server: FileServer) -> None:
    with refused("shard_1.parquet lies there more than once"):
        read_shards(f"{server.url}/{{data,more}}/shard_1.parquet")


def test_s3_prefix_without_shards(files: dict[str, bytes]) -> None:
    with S3Server({"data/notes.txt": b"nothing", "data/.x.parquet": b"hidden"}) as s3, refused("s3://data: no Parquet"):
        read_shards(s3_url(s3))


def test_http_folder_without_manifest_says_what_to_give(server: FileServer) -> None:
    with refused(r"data/manifest.json, which lists the shards \(or name them: .*\): not to be had \(HTTP status 404\)"):
        read_shards(f"{server.url}/data")


@pytest.mark.parametrize("content", [b"<html>", b"{}", b'{"shards": [{"name": "a.parquet"}]}', b"[]"])
def test_broken_manifest(server: FileServer, content: bytes) -> None:
    server.files["data/manifest.json"] = content
    with refused("data/manifest.json: not a manifest of shards"):
        read_shards(f"{server.url}/data")


def test_a_file_of_another_size_than_the_manifest_says(server: FileServer, files: dict[str, bytes]) -> None:
    server.files["data/manifest.json"] = manifest(files)
    server.files["data/shard_1.parquet"] += b"more"
    with refused("shard_1.parquet: .* bytes, but manifest.json beside it says"):
        read_shards(f"{server.url}/data")


def test_unknown_protocol() -> None:
    with refused("nonsense://: cannot be read .*hf://"):
        read_shards("nonsense://somewhere")


def test_passwords_are_not_told(server: FileServer, files: dict[str, bytes]) -> None:
    training, validation = read_shards(pattern(server).replace("http://", "http://me:hidden@") + "?token=hidden")
    server.choose = lambda asked: "403"
    with pytest.raises(UserError) as caught:
        read_texts(training[0], 0)
    with S3Server(files) as s3:
        on_s3, _ = read_shards(s3_url(s3, "me:hidden@"))
    told = f"{caught.value} {validation} {identity(training)} {on_s3[0]} {identity(on_s3)}"
    assert "hidden" not in told and "me:" not in told and "s3://data/shard_0.parquet" in told
    assert server.log[-1].authorization.startswith("Basic ")


# ---- identity


def test_identity_is_the_same_wherever_a_prepared_folder_lies(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / Path(name).name).write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(manifest(files))
    local, _ = read_shards(tmp_path)
    with served("folder", files) as (url, _):
        training, _ = read_shards(url)
    digest = hashlib.sha256(files["data/shard_0.parquet"]).hexdigest()
    size = len(files["data/shard_0.parquet"])
    assert identity(training)["shard_0.parquet"] == f"{size} bytes with 200 documents, sha256 {digest}"
    assert identity(training) == identity(local)


def test_identity_tells_versions_apart(server: FileServer) -> None:
    before = identity(read_shards(pattern(server))[0])
    server.files["data/shard_1.parquet"] = server.files["data/shard_0.parquet"]
    after = identity(read_shards(pattern(server))[0])
    assert before["shard_0.parquet"] == after["shard_0.parquet"] and "etag" in before["shard_0.parquet"]
    assert before["shard_1.parquet"] != after["shard_1.parquet"]


# ---- the cache on disk


def test_a_second_start_fetches_nothing_again(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    expected = texts_of(*read_shards(corpus))
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected
    RECENT.forget()
    before = len(server.log)
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected
    assert [sent.range for sent in server.log[before:]] == ["bytes=0-0"] * 3  # whether the files are still the same


def test_damaged_cache_files_are_fetched_again(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    expected = texts_of(*read_shards(pattern(server), cache_dir=tmp_path))
    for number, path in enumerate(sorted(tmp_path.glob("*.range"))):
        content = bytearray(path.read_bytes())
        content[number * 7 % len(content)] ^= 1
        path.write_bytes(content if number % 2 else content[: len(content) // 2])
    RECENT.forget()
    before = len(server.log)
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == expected == texts_of(*read_shards(corpus))
    assert len(server.log) > before + 10


def twins(folder: Path) -> tuple[bytes, bytes]:
    """Two files of the same size and layout, so that the same ranges of them are read."""
    for name in ("one", "two"):
        pq.write_table(pa.table({"text": [name] * 100}), folder / name, compression="none", use_dictionary=False)
    return (folder / "one").read_bytes(), (folder / "two").read_bytes()


def test_the_cache_never_gives_another_version(server: FileServer, tmp_path: Path) -> None:
    one, two = twins(tmp_path)
    assert len(one) == len(two)
    for content, text in ((one, "one"), (two, "two"), (one, "one")):
        server.files["data/shard_0.parquet"] = content
        training, _ = read_shards(pattern(server), cache_dir=tmp_path / "cache")
        assert read_texts(training[0], 0) == [text] * 100


def test_what_came_from_another_version_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    one, two = twins(tmp_path)
    server.files["data/shard_0.parquet"] = one
    training, _ = read_shards(pattern(server), cache_dir=tmp_path / "cache")
    server.files["data/shard_0.parquet"] = two
    with refused("shard_0.parquet: changed on the server"):
        read_texts(training[0], 0)
    server.files["data/shard_0.parquet"] = one
    assert read_texts(training[0], 0) == ["one"] * 100


def test_nothing_is_kept_of_a_file_that_has_no_version(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    server.etags = False
    assert texts_of(*read_shards(pattern(server), cache_dir=tmp_path)) == texts_of(*read_shards(corpus))
    assert not list(tmp_path.glob("*.range"))


@pytest.mark.parametrize("fault", ["damaged", "short", "500"])
def test_nothing_bad_is_kept(fault: str, server: FileServer, tmp_path: Path) -> None:
    training, _ = read_shards(pattern(server), cache_dir=tmp_path)
    kept, server.choose = len(list(tmp_path.glob("*.range"))), lambda asked: fault
    with pytest.raises(UserError):
        read_texts(training[0], 0)
    assert len(list(tmp_path.glob("*.range"))) == kept


def test_a_small_cache_keeps_its_cap(server: FileServer, corpus: Path, tmp_path: Path) -> None:
    cap = 20_000
    found = texts_of(*read_shards(pattern(server), cache_dir=tmp_path, cache_bytes=cap), threads=4)
    assert found == texts_of(*read_shards(corpus))
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*.range")) <= cap


# ---- braces


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 5), st.sampled_from(["", "a", "a,b", "x,,z"]))
def test_braces_stand_for_all_combinations(low: int, more: int, digits: int, names: str) -> None:
    choices = names.split(",") if "," in names else [f"{names}"]
    braces = f"{{{names}}}" if "," in names else names
    first = f"{low:0{digits}}"
    numbers = [f"{number:0{len(first)}}" for number in range(low, low + more + 1)]
    expected = [f"u/{name}-{number}.p" for name, number in itertools.product(choices, numbers)]
    assert expand_braces("u/" + braces + "-{" + f"{first}..{low + more}" + "}.p") == expected


@pytest.mark.parametrize("wrong", ["{3..1}", "{a}", "{}", "{0..9999999}", "{0..999}{0..999}"])
def test_braces_that_mean_nothing(wrong: str) -> None:
    with refused(r"\{"):
        expand_braces(f"http://host/{wrong}.parquet")
