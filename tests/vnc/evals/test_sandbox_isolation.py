"""Programs that try to get out of the sandbox, in all of it and in its parts, or to do harm from within."""

import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vnc.evals.sandbox
from tests.vnc.evals.sandboxes import LAYERS, REPOSITORY, SYSTEM_PYTHON, needs_linux, run, use
from tests.vnc.evals.sandboxes import nothing_is_left as nothing_is_left  # a fixture of every test here
from vnc.evals.sandbox import Limits, protections, run_code
from vnc.evals.syscall_filter import DENIED, MACHINES

pytestmark = needs_linux


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user's, which must live on."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    alive = process.poll() is None
    process.kill()
    process.wait()
    assert alive


# Processes


@pytest.mark.parametrize("layers", ["all", "namespaces", "filter"])
def test_fork_bomb(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    assert ran.end == "timeout"
    ran = run("import os\nwhile True: os.fork()")
    assert ran.end in ("failed", "timeout")


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        CLOSE
        time.sleep(60)
    os._exit(0)
time.sleep(0.1)
"""


@pytest.mark.parametrize("layers", ["all", "namespaces", "filter", "limits"])
@pytest.mark.parametrize("close", ["pass", "os.closerange(0, 64)"])
def test_a_process_in_the_background(layers: str, close: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    ran = run(DAEMON.replace("CLOSE", close), Limits(wall_seconds=4, processes=10_000))
    assert ran.end == ("passed" if layers in ("namespaces", "limits") else "failed")
    assert ran.seconds < 3


def test_no_other_program_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    for source in ("import os\nos.execv('/bin/sh', ['sh'])", "import subprocess\nsubprocess.run(['/bin/true'])",
                   "import os\nassert os.system('true') == 0", "import os\nos.posix_spawn('/bin/true', ['true'], {})",
                   "import multiprocessing as m\nm.Process(target=print).start()"):  # fmt: skip
        assert run(source).end == "failed"


KILL = """
import os, signal
pids = [os.getppid(), 1, VICTIM, PARENT, -1, 0, *range(2, 64)]
for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    for pid in pids:
        if pid != os.getpid():
            try: os.kill(pid, number)
            except OSError: pass
"""


@pytest.mark.parametrize("layers", ["all", "filter"])
def test_killing(layers: str, victim: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    source = KILL.replace("VICTIM", str(victim.pid)).replace("PARENT", str(os.getpid()))
    assert run(source).end == "passed"
    assert run(f"{source}\nwhile True: pass").end == "timeout"


def test_killing_where_signals_are_allowed(victim: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    use("namespaces", monkeypatch)
    source = KILL.replace("VICTIM", str(victim.pid)).replace("PARENT", str(os.getpid())).replace(", 0,", ",")
    assert run(source).end == "passed"
    assert run(source + "os.kill(os.getpid(), 9)").end == "killed"


@pytest.mark.parametrize("layers", ["all", "filter"])
def test_others_cannot_be_slowed_down(
    layers: str, victim: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(layers, monkeypatch)
    ran = run(
        f"import os, resource\npid = {victim.pid}\n"
        "for attempt in (lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),\n"
        "                lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),\n"
        "                lambda: os.sched_setaffinity(pid, {0})):\n"
        "    try: attempt()\n"
        "    except OSError: continue\n"
        "    raise SystemExit('done')\n"
    )
    assert ran.end == "passed", ran.stderr


# Files and secrets


@pytest.mark.parametrize("layers", ["all", "namespaces"])
def test_the_users_files_are_not_there(layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    secret = tmp_path / "secret"
    secret.write_text("mine")
    ran = run(
        f"import os\nsecret, home, mine = {str(secret)!r}, {str(Path.home())!r}, {str(REPOSITORY)!r}\n"
        """
def tried(act, *arguments):
    try: act(*arguments)
    except OSError as error: return error
    raise SystemExit(f"{act.__name__}{arguments} went well")
assert isinstance(tried(open, secret), FileNotFoundError)  # absent, not merely forbidden
assert isinstance(tried(open, "/etc/passwd"), FileNotFoundError)
for path in (secret, "/etc/passwd", "/proc/self/environ", "/proc/1/environ", "../.." + secret, "/root/.bashrc",
             mine + "/README.md", "/dev/vda", "/dev/mem", "/sys/kernel"):
    tried(open, path)
    tried(open, path, "a")
    tried(os.unlink, path)
    tried(os.rename, path, path + "2")
    tried(os.link, path, "linked")
    os.symlink(path, "link")
    tried(open, "link")
    os.unlink("link")
for path in (mine, "/proc", "/home", "/var", "/sys", "/run"):
    tried(os.listdir, path)
if os.path.isdir(home):  # on the way to Python's library
    assert not [name for name in os.listdir(home) if not os.__file__.startswith(os.path.join(home, name))]
for path in (os.__file__, "/x", "/usr/lib/x", "/etc/ld.so.cache", os.path.dirname(os.__file__) + "/x"):
    tried(open, path, "a")
    tried(os.unlink, path)
    tried(os.chmod, path, 0o777)
tried(os.chroot, ".")
tried(os.setuid, 0)
for fd in range(3, 64):
    try: found = os.stat(fd)
    except OSError: continue
    assert not os.path.isdir(fd), fd
"""
    )
    assert ran.end == "passed", ran.stderr
    assert secret.read_text() == "mine"


def test_the_view_cannot_be_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where system calls are allowed, a program may make namespaces of its own; they hold no more than these."""
    use("namespaces", monkeypatch)
    ran = run(
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def rights():\n"
        "    lib = os.path.dirname(os.__file__).encode()\n"
        "    assert libc.mount(None, lib, None, 32 | 4096, None) == -1, 'remounted'\n"
        "    assert libc.umount2(b'/usr/lib', 2) == -1, 'unmounted'\n"
        "    assert libc.mount(None, b'/', None, 32, None) == -1, 'root remounted'\n"
        "    try: open('/x', 'w')\n"
        "    except OSError: return\n"
        "    raise SystemExit('wrote')\n"
        "rights()\n"
        "print(libc.unshare(0x10000000 | 0x20000))\n"
        "rights()\n"
    )
    assert ran.end == "passed", ran.stderr


def test_the_environment_and_keys_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    use("all", monkeypatch)
    monkeypatch.setenv("VNC_TEST_SECRET", "mine")
    ran = run(
        "import ctypes, os\n"
        "assert not os.environ\n"
        f"for pid in ('self', 1, 2, {os.getpid()}):\n"
        "    for name in ('environ', 'mem', 'maps', 'fd', 'root', 'cwd'):\n"
        "        assert not os.path.lexists(f'/proc/{pid}/{name}')\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\n"
        "assert not environ or not environ[0]\n"
        "assert libc.ptrace(16, os.getppid(), 0, 0) == -1\n"
        "assert libc.syscall(KEYCTL, 0, -3, 0) == -1 and ctypes.get_errno() == 1\n".replace(
            "KEYCTL", str(DENIED["keyctl"][MACHINES.index(platform.machine())])
        )
    )
    assert ran.end == "passed", ran.stderr


# Network


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, socket.socket]]:
    kinds = {"tcp": (socket.AF_INET, socket.SOCK_STREAM), "udp": (socket.AF_INET, socket.SOCK_DGRAM),
             "unix": (socket.AF_UNIX, socket.SOCK_STREAM), "abstract": (socket.AF_UNIX, socket.SOCK_DGRAM)}  # fmt: skip
    addresses = {"tcp": ("127.0.0.1", 0), "udp": ("127.0.0.1", 0), "unix": str(tmp_path / "s"),
                 "abstract": f"\0vnc-test-{os.getpid()}"}  # fmt: skip
    opened = {}
    for name, kind in kinds.items():
        opened[name] = socket.socket(*kind)
        opened[name].bind(addresses[name])
        if kind[1] == socket.SOCK_STREAM:
            opened[name].listen()
        opened[name].settimeout(0.05)
    os.chmod(addresses["unix"], 0o777)
    yield opened
    for one in opened.values():
        one.close()


@pytest.mark.parametrize("layers", ["all", "namespaces", "filter"])
def test_network(layers: str, listeners: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    use(layers, monkeypatch)
    targets = [(int(one.family), int(one.type), one.getsockname()) for one in listeners.values()]
    stream = int(socket.SOCK_STREAM)
    targets += [(int(socket.AF_INET), stream, ("192.0.2.1", 80)), (int(socket.AF_INET6), stream, ("::1", 80))]
    source = (
        f"import socket\ntargets = {targets!r}\n"
        "for family, kind, address in targets:\n"
        "    try:\n"
        "        s = socket.socket(family, kind)\n"
        "        s.connect(address)\n"
        "        s.send(b'hello')\n"
        "    except OSError as error: print(error)\n"
        "    else: raise SystemExit(f'reached {address!r}')\n"
    )
    if layers != "namespaces":  # network namespaces do not hold these
        source += (
            "for family in (socket.AF_VSOCK, socket.AF_ALG, socket.AF_NETLINK, socket.AF_PACKET):\n"
            "    try: socket.socket(family, socket.SOCK_DGRAM)\n"
            "    except PermissionError: continue\n"
            "    raise SystemExit(f'opened {family}')\n"
        )
    ran = run(source)
    assert ran.end == "passed", ran.stderr
    for name, one in listeners.items():
        with pytest.raises(TimeoutError):
            one.accept() if name in ("tcp", "unix") else one.recv(1)


# Where a part is refused


def test_without_isolation_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "print('ran')"
    for layers in ("filter", "limits"):
        monkeypatch.setattr(vnc.evals.sandbox, "_layers", vnc.evals.sandbox._Layers(*LAYERS[layers]))
        ran = run_code(source)
        assert ran.end == "not run" and not ran.stdout and not ran.protections.isolated
        assert "not isolated" in ran.stderr and "files" in ran.stderr
        assert run(source).stdout == "ran\n"


REFUSING = """
import ctypes, struct, sys
sys.path.insert(0, REPOSITORY)
from vnc.evals.syscall_filter import CLONE, MACHINES, filter_program
import platform
op = lambda *values: struct.pack("=HBBI", *values)
number = CLONE[MACHINES.index(platform.machine())]
program = (op(0x20, 0, 0, 0) + op(0x15, 0, 3, number) + op(0x20, 0, 0, 16) + op(0x45, 0, 1, 0x10000000)
           + op(0x06, 0, 0, 0x50001) + op(0x06, 0, 0, 0x7FFF0000))
buffer = ctypes.create_string_buffer(program, len(program))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(22, 2, ctypes.create_string_buffer(header)) == 0
from vnc.evals.sandbox import protections, run_code
print(protections())
print(run_code("print(1)").end, run_code("print(1)", require_isolation=False).end)
print(run_code("import socket\\nsocket.socket()", require_isolation=False).stderr)
"""


def test_on_a_machine_that_refuses_namespaces() -> None:
    """As a container's own filter does: clone with a new user namespace fails with EPERM."""
    if platform.machine() not in MACHINES or not protections().syscall_filter:
        pytest.skip("needs system-call filters to play such a machine")
    script = REFUSING.replace("REPOSITORY", repr(str(REPOSITORY)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Protections(namespaces=False, syscall_filter=True,")
    assert "namespaces: clone: Operation not permitted" in lines[0]
    assert lines[1] == "not run passed"
    assert "Operation not permitted" in lines[-1] or "PermissionError" in done.stdout


NOBODY = """
import os, sys
sys.path.insert(0, REPOSITORY)
sys.dont_write_bytecode = True
from vnc.evals.sandbox import Limits, protections, run_code
assert os.getuid() == 65534
print(protections())
short = Limits(cpu_seconds=1, wall_seconds=2)
attacks = ["import hashlib", "while True: pass", "x = bytearray(1 << 40)", "open('/etc/passwd')",
           "import socket\\nsocket.socket()", "import os\\nos.kill(-1, 9)", "import os\\nos.setuid(0)",
           "import os\\nassert os.getuid() == 65534 and not os.path.exists('/proc')"]
print([run_code(attack, short).end for attack in attacks])
import vnc.evals.sandbox as sandbox
sandbox._layers = sandbox._Layers(namespaces=True, syscall_filter=False)
print([run_code(attack, short, require_isolation=False).end for attack in attacks[3:]])
bomb = "import os\\nwhile True:\\n    try: os.fork()\\n    except OSError: pass"
print(run_code(bomb, short, require_isolation=False).end)
sandbox._layers = sandbox._Layers(namespaces=False, syscall_filter=False)
print(run_code(bomb, short, require_isolation=False).end)
"""


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """Under root the suite has root's rights to make namespaces; users have not."""
    if os.getuid() != 0:
        pytest.skip("this whole suite runs as an ordinary user")
    is_new_enough = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not SYSTEM_PYTHON.exists() or subprocess.run([SYSTEM_PYTHON, "-c", is_new_enough]).returncode:
        pytest.skip(f"no Python 3.11 at {SYSTEM_PYTHON} that user nobody could run")
    folder = tempfile.mkdtemp(prefix="vnc_nobody_", dir="/tmp")
    os.chmod(folder, 0o777)
    script = NOBODY.replace("REPOSITORY", repr(str(REPOSITORY)))
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", script], user=65534, group=65534, extra_groups=[], cwd="/",
                              env={"TMPDIR": folder}, capture_output=True, text=True, timeout=60)  # fmt: skip
        left = os.listdir(folder)
    finally:
        subprocess.run(["rm", "-rf", folder])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if "namespaces=True" not in lines[0]:
        pytest.skip(f"this machine gives ordinary users no namespaces: {lines[0]}")
    assert lines[0] == "Protections(namespaces=True, syscall_filter=True, unprivileged=True, missing=())"
    expected = ["passed", "timeout", "memory", "failed", "failed", "failed", "failed", "passed"]
    assert lines[1] == str(expected)
    assert lines[2] == str(["failed", "passed", "failed", "failed", "passed"])  # a socket, but nothing that it reaches
    assert lines[3:] == ["timeout", "timeout"]
    assert not left
