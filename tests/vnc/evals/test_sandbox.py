"""Programs that run wild in the sandbox, in all of it and in its parts: what they say, what they may use up, and how
they and their callers end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.vnc.evals.sandboxes import LAYERS, REPOSITORY, children, needs_linux, parent, run, use
from tests.vnc.evals.sandboxes import nothing_is_left as nothing_is_left  # a fixture of every test here
from vnc.evals.sandbox import Limits, protections

pytestmark = needs_linux


def test_this_machine_has_what_it_says() -> None:
    stood = protections()
    assert stood.isolated == (not stood.missing)
    assert stood.in_words().startswith("isolated" if stood.isolated else "not isolated")


# How programs end


@pytest.mark.parametrize("layers", ["all", "limits"])
@pytest.mark.parametrize(
    ("source", "end", "code"),
    [
        ("x = 1", "passed", 0),
        ("1 / 0", "failed", 1),
        ("def f(:", "failed", 1),
        ("raise SystemExit", "failed", 0),
        ("exit_code = 7\nraise SystemExit(exit_code)", "failed", 7),
        ("raise SystemExit('a message')", "failed", 1),
        ("import os\nos._exit(0)", "failed", 0),
        ("raise KeyboardInterrupt", "failed", 1),
        ("x = '\ud800'", "failed", 1),
        ("x = '\0'", "failed", 1),
        ("import ctypes\nctypes.string_at(0)", "killed", -signal.SIGSEGV),
    ],
)
def test_ends(layers: str, source: str, end: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run(source)
    assert (ran.end, ran.exit_code) == (end, code)


def test_what_a_program_finds() -> None:
    ran = run(
        """from __future__ import annotations
import os, sys, tempfile, threading, dataclasses, hashlib, decimal, zlib, asyncio
assert not os.environ, os.environ
assert sys.stdin.read() == ""
assert __name__ == "program"
@dataclasses.dataclass
class Point:
    x: int
assert Point(1) == Point(1)
assert hashlib.md5(b"x").hexdigest().startswith("9dd4")
with tempfile.TemporaryFile() as file:
    file.write(b"a few bytes")
open("note", "w").write("in the scratch folder")
seen = []
threads = [threading.Thread(target=seen.append, args=[i]) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(seen) == 4
async def answer(): return 42
assert asyncio.run(answer()) == 42
assert not any("site-packages" in path for path in sys.path)
try:
    import torch
except ImportError:
    print("out", end="")
print("err", file=sys.stderr, end="")
"""
    )
    assert (ran.end, ran.stdout, ran.stderr) == ("passed", "out", "err")


def test_errors_show_the_program_and_not_the_sandbox() -> None:
    ran = run("def f():\n    return [][3]\nf()")
    assert ran.stderr.splitlines()[-1] == "IndexError: list index out of range"
    assert 'File "<program>", line 3' in ran.stderr and "sandbox" not in ran.stderr


def test_sets_have_the_same_order_each_time() -> None:
    assert len({run("print(set('abcdefgh'), hash('a'))").stdout for _ in range(4)}) == 1


def test_many_at_once() -> None:
    found = {}

    def go(number: int) -> None:
        found[number] = run(f"open('x', 'w').write('{number}')\nprint(open('x').read())", Limits()).stdout

    threads = [threading.Thread(target=go, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"{number}\n" for number in range(8)}


# Time, memory, output, files: limits that hold with and without the rest

IGNORE = """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
"""


@pytest.mark.parametrize("layers", ["all", "limits"])
@pytest.mark.parametrize(
    "source",
    ["while True: pass", IGNORE + "while True: pass", "import time\ntime.sleep(60)", IGNORE + "signal.pause()",
     "import threading\nfor _ in range(3): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n"
     "while True:\n    try:\n        while True: pass\n    except BaseException: pass"],
)  # fmt: skip
def test_time(layers: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run(source)
    assert ran.end == "timeout"
    assert ran.seconds < 5


@pytest.mark.parametrize("layers", ["all", "limits"])
@pytest.mark.parametrize(
    "source",
    ["x = bytearray(4 << 30)", "x = []\nwhile True: x.append(bytearray(1 << 20))", "x = 'a'\nwhile True: x += x",
     "import mmap\nm = [mmap.mmap(-1, 1 << 30) for _ in range(99)]"],
)  # fmt: skip
def test_memory(layers: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run(source)
    assert ran.end == "memory" or (ran.end == "failed" and "Cannot allocate memory" in ran.stderr)


def test_the_limits_cannot_be_raised() -> None:
    ran = run(
        "import resource\n"
        "for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'NPROC'):\n"
        "    limit = getattr(resource, 'RLIMIT_' + name)\n"
        "    assert resource.getrlimit(limit)[1] != resource.RLIM_INFINITY\n"
        "    for most in (-1, resource.getrlimit(limit)[1] + 1):\n"
        "        try: resource.setrlimit(limit, (most, most))\n"
        "        except (ValueError, OSError): continue\n"
        "        raise SystemExit('raised ' + name)\n"
    )
    assert ran.end == "passed", ran.stderr


def test_memory_outside_the_address_space_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    ran = run(
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.shmget(0, ctypes.c_size_t(1 << 30), 0o1600) == -1 and ctypes.get_errno() == 1\n"
        "try: os.memfd_create('x')\n"
        "except PermissionError: pass\n"
        "else: raise SystemExit('memfd')\n"
    )
    assert ran.end == "passed", ran.stderr


@pytest.mark.parametrize("layers", ["all", "limits"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_printing_without_end(layers: str, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run(f"import sys\nwhile True: sys.{stream}.write('many words ' * 1000)", Limits())
    assert ran.end == "output"
    assert len(getattr(ran, stream)) == Limits().output_bytes
    assert ran.seconds < 3


def test_a_flood_that_nobody_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    assert run("import os\nfor fd in range(3, 64):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n"
               "    except OSError: pass").end in ("timeout", "failed")  # fmt: skip


@pytest.mark.parametrize("layers", ["all", "limits"])
def test_one_file_of_ten_gigabytes(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run("with open('big', 'wb') as f:\n    for _ in range(10_000): f.write(bytes(1 << 20))", Limits())
    assert ran.end == "failed" and "File too large" in ran.stderr
    assert run("open('big', 'wb').truncate(10 << 30)").end == "failed"


def test_ten_gigabytes_in_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    ran = run(
        "import os\n"
        "written = 0\n"
        "try:\n"
        "    for i in range(10_000):\n"
        "        with open(f'f{i}', 'wb', 0) as f: written += f.write(bytes(1 << 20))\n"
        "except OSError as error:\n"
        "    print(error.strerror, written)\n",
        Limits(),
    )
    assert ran.end == "passed"
    assert ran.stdout == f"No space left on device {Limits().scratch_bytes}\n"
    ran = run("for i in range(1_000_000): open(f'f{i}', 'w').close()", Limits())
    assert ran.end == "failed" and "No space left" in ran.stderr


# The caller's own end


def test_an_interrupted_caller_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run of Lightning's may have left its own
    timer = threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run("import time\ntime.sleep(60)", Limits(wall_seconds=60))
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("layers", ["all", "limits"])
def test_a_killed_caller_leaves_nothing_running(layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    script = (
        f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\nimport vnc.evals.sandbox as s, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\ns._layers = s._Layers(*{LAYERS[layers]})\n"
        "s.run_code('import time\\ntime.sleep(60)', s.Limits(wall_seconds=60), False)"
    )
    caller = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 10
    while len(family := descendants(caller.pid)) < 3:
        assert time.monotonic() < deadline, family
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    while still := {pid for pid in family if running(pid)}:
        assert time.monotonic() < deadline, still
        time.sleep(0.05)
    for pid in children() & family:  # orphans are this process's, to collect
        os.waitpid(pid, 0)


def running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    everyone = {int(entry.name): parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found, new = set(), {pid}
    while new:
        new = {one for one, its_parent in everyone.items() if its_parent in new}
        found |= new
    return found
