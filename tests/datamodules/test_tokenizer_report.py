"""`vnc tokenizer report`: its figures against counts made the slow way, its bounds, and what it refuses."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import tokenizer_report
from datamodules.tokenizer_report import Source, Tally, compare, find_sources, report, within
from vnc.errors import UserError
from vnc.tokenizer import Tokenizer


@pytest.fixture
def no_gpt2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without network: GPT-2's vocabulary cannot be had."""
    load = Tokenizer.load

    def offline(name: str | Path) -> Tokenizer:
        if name == "gpt2":
            raise UserError("tokenizer gpt2: not here")
        return load(name)

    monkeypatch.setattr(Tokenizer, "load", offline)


def test_figures_are_those_counted_one_by_one(tokenizer_folder: Path, text: Callable[[int], str]) -> None:
    ours, bytes_alone = Tokenizer.load(tokenizer_folder), Tokenizer([bytes([b]) for b in range(256)], r"\s+|\S+")
    texts = {"a": [text(n) for n in range(30)], "b": ["über" + 40 * " " + text(n) for n in range(30, 50)]}
    sources = [Source(name, each) for name, each in texts.items()]
    result = compare(sources, {"ours": Tally(ours), "gpt2": Tally(bytes_alone)}, 10**9)
    for name, each in texts.items():
        size, tokens = sum(len(t.encode()) for t in each), sum(len(ours.encode(t)) for t in each)
        found = result["sources"][name]
        assert found["bytes"] == size
        assert found["tokenizers"]["gpt2"] == {"tokens": size, "bytes_per_token": 1, "ratio": 1, "tokens_saved": 0}
        assert found["tokenizers"]["ours"] == pytest.approx(
            {"tokens": tokens, "bytes_per_token": size / tokens, "ratio": size / tokens,
             "tokens_saved": (size - tokens) / size}
        )  # fmt: skip
    everything = [t for each in texts.values() for t in each]
    assert result["total"]["bytes"] == sum(len(t.encode()) for t in everything)
    assert result["total"]["tokenizers"]["ours"]["tokens"] == sum(len(ours.encode(t)) for t in everything)
    used = {token for t in everything for token in ours.encode(t)}
    vocabulary = result["vocabularies"]["ours"]
    assert vocabulary["in_use"] == len(used)
    assert vocabulary["share_in_use"] == pytest.approx(len(used) / (ours.vocab_size - len(ours.special_ids)))
    words = [ours.decode_bytes([token]) for token in used]
    lengths = sorted((len(word) for word in words if not word.isspace()), reverse=True)
    assert [len(token.encode()) for token in vocabulary["longest"]] == lengths[:5]


@given(st.lists(st.text(max_size=8).filter(lambda t: t.isprintable())), st.integers(1, 40))
def test_within_is_a_prefix_as_long_as_whole_characters_allow(texts: list[str], max_bytes: int) -> None:
    whole, cut = "".join(texts).encode(), "".join(within(texts, max_bytes)).encode()
    assert whole.startswith(cut)
    assert min(len(whole), max_bytes) - 3 <= len(cut) <= max_bytes


@pytest.mark.parametrize(("share", "texts"), [(40, 4), (45, 5)])
def test_reads_no_more_than_its_share(share: int, texts: int) -> None:
    drawn = []
    endless = (drawn.append(number) or "0123456789" for number in range(10**9))  # type: ignore[func-returns-value]
    tally = Tally(Tokenizer([bytes([b]) for b in range(256)], r"\s+|\S+"))
    result = compare([Source("endless", endless), Source("short", ["ab"])], {"bytes": tally}, 2 * share)
    assert {name: each["bytes"] for name, each in result["sources"].items()} == {"endless": share, "short": 2}
    assert len(drawn) == texts


def test_all_kinds_of_files(tmp_path: Path, write_shard: Callable[..., Path]) -> None:
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo")
    (tmp_path / "b.md").write_text("# Über")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n{"text": "four", "n": 1}\n')
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"five"))
    write_shard(tmp_path / "e.parquet", ["six", "seven"])
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "f.png").write_bytes(b"\x89")
    (source,) = find_sources(str(tmp_path))
    assert "|".join(text for text in source.texts if text) == "one\n|two|# Über|three|four|five|six|seven"
    two = find_sources(f"{tmp_path / 'a.txt'}, {tmp_path / 'b.md'}")
    assert [Path(each.name).name for each in two] == ["a.txt", "b.md"]


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(1, 7))
def test_a_text_file_in_pieces_is_the_file(tmp_path_factory: pytest.TempPathFactory, content: str, size: int) -> None:
    content = content.lstrip("\ufeff")
    path = tmp_path_factory.mktemp("pieces") / "a.txt"
    path.write_bytes(content.encode())
    assert "".join(tokenizer_report._chunks(path, size)) == content


@pytest.mark.usefixtures("no_gpt2")
def test_goes_on_without_gpt2_and_says_so(tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(str(tokenizer_folder), json=True, max_bytes=5_000)
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "without GPT-2" in printed.err
    result = json.loads(printed.out)
    assert list(result["vocabularies"]) == [str(tokenizer_folder)]
    assert result["total"]["bytes"] == 5_000
    assert set(result["total"]["tokenizers"][str(tokenizer_folder)]) == {"tokens", "bytes_per_token"}


@pytest.mark.usefixtures("no_gpt2")
def test_tables_show_the_figures(
    tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("[red]", "b"):
        (tmp_path / f"{name}.txt").write_text("the old boat on our lake " * 9)
    report(str(tokenizer_folder), f"{tmp_path / '[red].txt'},{tmp_path / 'b.txt'}")
    printed = capsys.readouterr().out
    assert "[red].txt" in printed and "in total" in printed and "450" in printed and "' lake'" in printed


@pytest.mark.usefixtures("no_gpt2")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "no such file or folder"),
        ("a.png", b"\x89", "not one of the kinds"),
        ("a.txt", b"", "no text in it"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("cut.txt", "ü".encode()[:1], "not UTF-8"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("cut.txt.gz", gzip.compress(b"hello " * 99, mtime=0)[:-9], "cannot be read"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "a.jsonl:2: broken JSON"),
        ("a.jsonl", b'{"body": "a"}', "a.jsonl:1: no such column"),
        ("a.parquet", b"no parquet", "unreadable file"),
    ],
)
def test_bad_data_is_one_line(
    tmp_path: Path, tokenizer_folder: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        report(str(tokenizer_folder), str(tmp_path / name))
    assert message in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_gpt2")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokenizer": " , "}, "--tokenizer: names no folder"),
        ({"tokenizer": "nowhere"}, "nowhere"),
        ({"tokenizer": "gpt2"}, "tokenizer gpt2"),
        ({"data": " "}, "--data: names no file"),
        ({"data": "x,x"}, "x is given twice"),
        ({"max_bytes": 0}, "--max_bytes 0"),
    ],
)
def test_bad_arguments(tokenizer_folder: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        report(**({"tokenizer": str(tokenizer_folder)} | arguments))  # type: ignore[arg-type]


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files of the kinds"):
        find_sources(str(tmp_path))
