"""Pages of C that are compiled when they are needed."""

import subprocess
import warnings
from pathlib import Path

import pytest

from vnc.c import library as c_library
from vnc.precision import cpu_flags

needs_compiler = pytest.mark.skipif(c_library.compiler() is None, reason="no C compiler here")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that knows a number from its header, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "number.h").write_text("static const int number = 6;\n")
    path = tmp_path / "page.c"
    path.write_text('#include "number.h"\nint answer(void) { return FACTOR * number; }\n')
    return path


def kept() -> list[Path]:
    return sorted(c_library.cache_folder().iterdir())


@needs_compiler
def test_a_page_is_compiled_once_for_each_state_and_flag(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: (runs.append(given), run(*given, **named))[1])
    for _ in range(2):
        assert c_library.load(page, "-DFACTOR=7").answer() == 42
    assert len(kept()) == 1 and len(runs) == 2  # compiled, linked
    assert c_library.load(page, "-DFACTOR=5").answer() == 30
    page.with_name("number.h").write_text("static const int number = 8;\n")
    assert c_library.load(page, "-DFACTOR=5").answer() == 40
    page.write_text(page.read_text().replace("number;", "number + 2;"))
    assert c_library.load(page, "-DFACTOR=5").answer() == 42
    assert len(kept()) == 4 and all(path.suffix == ".so" for path in kept())  # and nothing half made


@needs_compiler
def test_a_page_that_cannot_be_compiled_is_said_and_done_without(page: Path) -> None:
    with pytest.warns(UserWarning, match=r"cannot compile .*page.c, what it does will be slower: .*FACTOR"):
        assert c_library.load(page) is None
    assert kept() == []


@needs_compiler
def test_where_nothing_can_be_kept_it_is_compiled_for_the_process(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page.parent / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(page.parent / "a file"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert c_library.load(page, "-DFACTOR=7").answer() == 42


@needs_compiler
def test_a_library_that_cannot_be_loaded_is_said_and_done_without(page: Path) -> None:
    page.write_text("int nowhere(void);\nint answer(void) { return nowhere(); }\n")
    with pytest.warns(UserWarning, match="page.c cannot be used, what it does will be slower: .*nowhere"):
        assert c_library.load(page) is None


def test_without_a_compiler_there_is_no_library_and_no_complaint(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(page.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert c_library.load(page, "-DFACTOR=7") is None


@needs_compiler
@pytest.mark.parametrize("flags", ["-DBF16=1", "-DBF16=0", "-DBF16=0 -mno-avx512f"])
@pytest.mark.parametrize("name", ["decoder", "training", "causal_attention", "muon"])
def test_pages_compile_without_a_warning(name: str, flags: str, tmp_path: Path) -> None:
    if "BF16=1" in flags and "avx512_bf16" not in cpu_flags():
        pytest.skip("a CPU without AVX512-BF16")
    constants = ["-DSMEAR_CHANNELS=24", "-DGATE_CHANNELS=12", "-Wall", "-Wextra", "-Werror"]
    command = [
        c_library.compiler(),
        *c_library.FLAGS,
        *flags.split(),
        *constants,
        "-c",
        c_library.FOLDER / f"{name}.c",
        "-o",
        tmp_path / "made.o",
    ]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
