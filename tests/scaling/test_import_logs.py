"""VibeNanoChat's logs: the fields of several of its versions, and what is left out. The logs are made here, in the
lines that its trainer prints."""

import csv

import pytest

from scaling.import_logs import COLUMNS, find, import_logs, read_log
from vnc.errors import UserError


def log(parameters="Scaling parameters: 110,100,912", steps=2511, last=2510, bpb=0.8512, totals=True) -> str:
    return "\n".join(
        [
            "   Target FLOPs: 1.00e+18",
            "   FLOPs per token: 7.59e+08",
            parameters,
            "   Total batch size: 524,288",
            f"   → Number of iterations: {steps:,}",
            "Total batch size: 524,288",
            f"Num iterations: {steps:,}",
            *([f"📊 Total steps: {steps:,}", "🎯 Total batch size: 524,288 tokens/step",
               "💫 FLOPs per token: 7.586e+08", f"📈 Total training tokens: {steps * 524288:,}",
               "⚡ Total training FLOPs: 9.987e+17"] if totals else []),
            "📊 VALIDATION | Step     0 | Val Loss: 10.8300 | BPB: 3.2100 | Time: 4.11s",
            "[Epoch 1/1] [Step   100/2511] (  4.0%) | Loss: 4.1234 | LR: 1.00e+00 | Grad: 3.1e-01",
            f"📊 VALIDATION | Step {last:>5} | Val Loss: 2.9123 | BPB: {bpb:.4f} | Time: 4.20s",
        ]
    )  # fmt: skip


def test_a_log_becomes_a_run():
    run = read_log("scaling_laws_N12_F1e18.log", log())
    assert (run.name, run.parameters, run.budget) == ("scaling_laws_N12_F1e18", 110_100_912, 1e18)
    assert (run.tokens, run.flops, run.loss) == (2511 * 524_288, 9.987e17, 0.8512)


@pytest.mark.parametrize(
    "line",
    [
        "   Scaling params: 110,100,912",
        "Model parameters: 110,100,912",
        "Num decay parameter tensors: 48, with 110,100,912 parameters",
    ],
)
def test_earlier_names_of_the_parameters(line):
    assert read_log("scaling_laws_N12_F1e18.log", log(line)).parameters == 110_100_912


def test_what_is_not_printed_follows_from_the_rest():
    run = read_log("scaling_laws_N12_F1e18.log", log(totals=False))
    assert run.tokens == 2511 * 524_288 and run.flops == pytest.approx(run.tokens * 7.59e8)
    bare = "Model parameters: 1,000\nCalculated number of iterations from target FLOPs: 50\nTotal batch size: 2,000\n"
    run = read_log("scaling_laws_N6_F2.5e+12.log", f"{bare}VALIDATION | Step 49 | Val Loss: 1.0 | BPB: 1.5")
    assert (run.tokens, run.flops, run.budget) == (100_000, 2.5e12, 2.5e12)  # no FLOPs per token: the name's


def test_a_resumed_run_is_taken_at_its_end():
    twice = log(bpb=0.95, last=2000) + "\n" + log(bpb=0.85)
    assert read_log("scaling_laws_N12_F1e18.log", twice).loss == 0.85


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no number of parameters"),
        ("Model parameters: 1,000", "neither the tokens nor iterations and batch size"),
        (log().split("📊 VALIDATION")[0], "no validation"),
        (log(last=1500), "its last validation is of step 1,500 of 2,511: it did not finish"),
    ],
)
def test_incomplete_logs_are_left_out_with_the_reason(text, said):
    with pytest.raises(ValueError, match=said):
        read_log("scaling_laws_N12_F1e18.log", text)


def test_find_takes_the_first_pattern_and_its_last_match():
    assert find((r"b=(\d+)", r"a=(\d+)"), "a=1 a=2") == 2
    assert find((r"a=(\d+)", r"b=(\d+)"), "b=3 a=1 a=2") == 2
    assert find((r"c=(\d+)",), "a=1") is None


def test_a_folder_becomes_a_csv(tmp_path, capsys):
    for name, text in (("scaling_laws_N12_F1e18.log", log()), ("scaling_laws_N10_F1e18.log", log(last=3)),
                       ("scaling_laws_N12_R10.log", log()), ("other.log", "")):  # fmt: skip
        (tmp_path / name).write_text(text)
    import_logs(str(tmp_path), str(tmp_path / "made" / "runs.csv"))
    with (tmp_path / "made" / "runs.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    numbers = [float(row[key]) for key in ("parameters", "tokens", "flops", "loss", "budget", "seed")]
    assert numbers == [110_100_912, 1_316_487_168, 9.987e17, 0.8512, 1e18, 0]
    said = capsys.readouterr()
    assert "left out: scaling_laws_N10_F1e18.log: its last validation" in said.err and "1 left out" in said.out


def test_nothing_to_import_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        import_logs(str(tmp_path / "absent"), str(tmp_path / "runs.csv"))
    with pytest.raises(UserError, match="no file there is named scaling_laws_N<depth>_F<FLOPs>.log"):
        import_logs(str(tmp_path), str(tmp_path / "runs.csv"))
    (tmp_path / "scaling_laws_N12_F1e18.log").write_text("")
    with pytest.raises(UserError, match="none of the 1 logs there can be used"):
        import_logs(str(tmp_path), str(tmp_path / "runs.csv"))
    (tmp_path / "runs.csv").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        import_logs(str(tmp_path), str(tmp_path / "runs.csv"))
    assert (tmp_path / "runs.csv").read_text() == "mine"
