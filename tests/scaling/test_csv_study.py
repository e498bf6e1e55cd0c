from pathlib import Path

import pytest

from scaling.csv_study import read_csv
from scaling.study import Excluded, Point, drop_highest
from vnc.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "study.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_chinchilla_as_it_is(shared_data: Path) -> None:
    study = read_csv(shared_data / "chinchilla" / "svg_extracted_data.csv")
    assert len(study.points) == 245 and not study.excluded
    first = study.points[0]
    assert (first.parameters, first.flops) == (6795600349.289497, 9.993852799709755e18)
    assert first.tokens == pytest.approx(first.flops / 6 / first.parameters)
    assert study.notes == ("svg_extracted_data.csv has no tokens: D = C / (6 N)",)
    assert study.loss_unit == "nats per token"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_names_in_any_order_and_case(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["Num_Params", "Val BPB", "Tokens", "FLOPs", "seed", "Budget", "Run"],
        ["1e7", "0.9", "2e8", "1.3e16", "2", "1e16", "a"],
    ]
    study = read_csv(write(tmp_path, "\ufeff" + "\n".join(delimiter.join(row) for row in rows)))
    assert study.points == (Point("a", 1e7, 2e8, 1.3e16, 0.9, 2, 1e16),)
    assert study.loss_unit == "bits per byte"
    assert study.convention == "column 'Num_Params'"
    assert study.notes == ()


def test_flops_follow_from_tokens(tmp_path: Path) -> None:
    study = read_csv(write(tmp_path, 'N,D,L\n"10,000,000",2e8,3.5\n'))
    assert study.points == (Point("line 2", 1e7, 2e8, 1.2e16, 3.5),)
    assert "C = 6 N D" in study.notes[0]


def test_blank_rows_and_runs_that_diverged_are_named(tmp_path: Path) -> None:
    study = read_csv(write(tmp_path, "N,C,loss,name\n1e7,1e16,,first\n1e7,1e16,nan,\n1e7,1e16\n\n1e7,1e16,3,ok\n"))
    assert [point.name for point in study.points] == ["ok"]
    assert study.excluded == (
        Excluded("first", "loss is blank"), Excluded("line 3", "loss is nan"), Excluded("line 4", "loss is blank"),
    )  # fmt: skip


def test_several_columns_that_could_be_meant_are_told(tmp_path: Path) -> None:
    study = read_csv(write(tmp_path, "params,non_embedding_params,C,loss\n2e7,1e7,1e16,3\n"))
    assert study.points[0].parameters == 2e7
    assert study.notes[0] == "study.csv: parameters is column 'params', not 'non_embedding_params'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "no column for parameters, loss, flops or tokens among a, b"),
        ("N,loss\n1,2\n", "no column for flops or tokens"),
        ("N,C,loss\n1e7,big,3\n", "line 2, column 'C': 'big' is not a number"),
        ("N,C,loss\n1e7,-1,3\n", "line 2, column 'C': -1 is not positive"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match="study.csv.*") as error:
        read_csv(write(tmp_path, text))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")


def test_drop_highest_names_what_it_drops(tmp_path: Path) -> None:
    study = read_csv(write(tmp_path, "N,C,loss,name\n1,1,3,a\n1,1,5,b\n1,1,4,c\n"))
    dropped = drop_highest(study, 2)
    assert [point.name for point in dropped.points] == ["a"]
    assert [one.name for one in dropped.excluded] == ["b", "c"]
    with pytest.raises(UserError, match="drop_highest=4"):
        drop_highest(study, 4)
