"""The vocabulary that comes with an imported GPT-2: its ids, its forms, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer

from tests.vnc.gpt2_folders import (
    END,
    TEXT,
    gpt2_folder,
    gpt2_folder_without_vocabulary,
    learn_vocabulary,
    logits,
)
from vnc.errors import UserError
from vnc.gpt2_import import import_gpt2
from vnc.gpt2_vocabulary import BYTE_OF, token_list
from vnc.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn_vocabulary(tmp_path_factory.mktemp("vocabulary"))


def test_ids_are_those_of_another_library(tmp_path: Path, vocabulary: Path) -> None:
    import_gpt2(str(gpt2_folder(tmp_path / "hf", vocabulary, {})), str(tmp_path / "out"))
    tokenizer = Tokenizer.load(tmp_path / "out")
    other = ByteLevelBPETokenizer(str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt"))
    for text in (TEXT, "the cat's mat\t(12345)", "  two  spaces \n \n", "".join(map(chr, range(1, 400)))):
        assert tokenizer.encode(text) == other.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_alphabet_holds_each_byte_once() -> None:
    assert sorted(BYTE_OF.values()) == list(range(256))
    assert BYTE_OF["Ġ"] == ord(" ") and BYTE_OF["Ċ"] == ord("\n") and BYTE_OF["a"] == ord("a")


def test_gpt2s_own_files_give_the_vocabulary_named_gpt2(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = shared_data / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
    small = dict(n_layer=1, n_head=1, n_embd=8, n_positions=16, vocab_size=50_257)
    folder = gpt2_folder_without_vocabulary(tmp_path / "hf", small)
    import_gpt2(str(folder), str(tmp_path / "named"))
    shutil.copy(cache / "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6", folder / "vocab.json")
    shutil.copy(cache / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee", folder / "merges.txt")
    import_gpt2(str(folder), str(tmp_path / "own"))
    fingerprints = {Tokenizer.load(place).fingerprint for place in (tmp_path / "named", tmp_path / "own", "gpt2")}
    assert len(fingerprints) == 1
    assert logits(tmp_path / "own", [50_256, 31_373, 995]).shape == (3, 50_257)


@pytest.mark.parametrize("style", ["pairs", "strings"])
def test_a_tokenizer_json_serves_as_well(tmp_path: Path, vocabulary: Path, style: str) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    import_gpt2(str(folder), str(tmp_path / "two_files"))
    other = ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    other.add_special_tokens([END])
    other.save(str(folder / "tokenizer.json"))
    content = json.loads((folder / "tokenizer.json").read_text())
    if style == "strings":
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    del content["model"]["vocab"][END]  # it then stands among the added tokens only
    (folder / "tokenizer.json").write_text(json.dumps(content))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    import_gpt2(str(folder), str(tmp_path / "one_file"))
    one, two = (Tokenizer.load(tmp_path / name) for name in ("one_file", "two_files"))
    assert one.fingerprint == two.fingerprint
    content["pre_tokenizer"]["add_prefix_space"] = True
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"tokenizer\.json: cuts text in another way"):
        import_gpt2(str(folder), str(tmp_path / "none"))


def test_vocabularies_built_in_another_way_are_refused() -> None:
    bytes_first = dict(BYTE_OF)
    good = bytes_first | {"Ġt": 256, "he": 257, END: 258}
    merges = [["Ġ", "t"], ["h", "e"]]
    assert token_list(good, merges)[255:] == [b"\xff", b" t", b"he"]
    for ids, pairs, message in (
        (good | {END: 300}, merges, "not 0 to 258"),
        (bytes_first | {"Ġt": 256, END: 257, "he": 258}, merges, "last token"),
        (good, merges[::-1], "token 256 is not what merge 0"),
        (good, merges[:1], "2 tokens of several bytes and 1 merges"),
        (good | {"a": 256, "Ġt": BYTE_OF["a"]}, merges, "first 256"),
        (bytes_first | {"日": 256, "he": 257, END: 258}, merges, "stands for no byte"),
        ({}, [], "last token"),
    ):
        with pytest.raises(ValueError, match=message):
            token_list(ids, pairs)


def test_broken_vocabulary_files_are_named(tmp_path: Path, vocabulary: Path) -> None:
    folder = gpt2_folder(tmp_path / "hf", vocabulary, {})
    merges, ids = (folder / "merges.txt").read_text(), (folder / "vocab.json").read_text()
    for name, content, message in (
        ("merges.txt", merges + "abc\n", r"merges\.txt: 'abc' is not a pair"),
        ("merges.txt", merges[: merges.rindex("\n", 0, -1) + 1], r"vocab\.json: not a vocabulary of GPT-2's kind"),
        ("vocab.json", "[]", r"vocab\.json: not a JSON object"),
        ("vocab.json", ids.replace(": 7,", ': "7",'), "not a table of tokens and their ids"),
    ):
        (folder / "merges.txt").write_text(merges)
        (folder / "vocab.json").write_text(ids)
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=message):
            import_gpt2(str(folder), str(tmp_path / "out"))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(UserError, match=r"tokenizer\.json: not a whole tokenizer file \(KeyError: 'pre_tokenizer'\)"):
        import_gpt2(str(folder), str(tmp_path / "out"))
