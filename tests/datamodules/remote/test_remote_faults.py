"""Whatever goes wrong on the way: the same texts, or one line."""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules import parquet, remote, stores
from datamodules.parquet import identity, read_shards, read_texts
from datamodules.recent import RECENT
from datamodules.remote import expand_braces
from tests.datamodules.http_server import FileServer, S3Server
from tests.datamodules.refused import refused
from tests.datamodules.remote_shards import manifest, pattern, s3_url, served, texts_of
from vnc.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*trying again:UserWarning")

WriteShard = Callable[..., Path]


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


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<html>", "cannot be read"),
        (b"[]", "not a manifest of format 1"),
        (b'{"shards": [{"name": "a.parquet"}]}', "not a manifest of format 1"),
        (b'{"format": 1}', "broken .KeyError: 'shards'"),
        (b'{"format": 1, "shards": [{"name": "a.parquet"}]}', "broken .KeyError: 'rows'"),
    ],
)
def test_broken_manifest(server: FileServer, content: bytes, message: str) -> None:
    server.files["data/manifest.json"] = content
    with refused(f"data/manifest.json: {message}"):
        read_shards(f"{server.url}/data")


def test_a_file_of_another_size_than_the_manifest_says(server: FileServer, files: dict[str, bytes]) -> None:
    server.files["data/manifest.json"] = manifest(files)
    server.files["data/shard_1.parquet"] += b"more"
    with refused("shard_1.parquet: [0-9]* bytes, but [0-9]* in manifest.json"):
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
