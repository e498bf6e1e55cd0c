"""The inside of the sandbox: what the fresh interpreter runs that `vnc.evals.sandbox` starts, and nothing else imports.

Three processes, one in another:

    guard     outside. Starts the keeper, ends it when the time is up, and outlives all that the program started.
    keeper    process 1 of new user, mount, process, network, IPC and host-name namespaces. Builds the view of the files
              that there is inside, gives up all privileges, and reports how the program ended.
    program   sets its own limits and system-call filter, which it cannot lift again, and runs the given source.

The request comes on standard input, in Python's own format for values. Lines go to the descriptor named on the command
line, each a dict as Python writes it: first what protects, then how it ended. The imports here are few, and cheap: each
program waits for them.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import signal
import struct
import sys

TYPE_CHECKING = False  # as in typing, which takes too long to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

NOBODY = 65534  # the kernel's own overflow uid
PROGRAM = "program"  # the module name that the source runs under; not __main__, as in the paper's harness

# linux/sched.h
NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # NS UTS IPC USER PID NET
# linux/prctl.h
SET_PDEATHSIG, SET_DUMPABLE, GET_SECCOMP, SET_SECCOMP, SET_SUBREAPER, SET_NO_NEW_PRIVS = 1, 4, 21, 22, 36, 38
SECCOMP_FILTER = 2
# linux/mount.h
NOSUID, NODEV, BIND, REC, PRIVATE, DETACH = 2, 4, 4096, 16384, 1 << 18, 2
ATTR_READ_ONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
# System calls that libc has no function for: (clone, pivot_root, mount_setattr) from asm/unistd.h
CALLS = {"x86_64": (56, 155, 442), "aarch64": (220, 41, 442)}
CAPABILITY_VERSION = 0x20080522  # linux/capability.h

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")  # of extension modules such as _hashlib
LOADER_CACHE = "/etc/ld.so.cache"
SCRATCH = "/tmp"

libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the interpreter's lock, which matters across clone


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int, pointer: Any = 0) -> int:
    arguments = (ctypes.c_ulong(value), ctypes.c_void_p(pointer) if pointer == 0 else pointer)
    return checked(libc.prctl(option, *arguments, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    result = libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(options))
    checked(result, f"mount {target}")


def set_attributes(target: str, attributes: int, recursive: int) -> None:
    values = struct.pack("=4Q", attributes, 0, 0, 0)
    call = CALLS[os.uname().machine][2]
    result = libc.syscall(call, AT_FDCWD, os.fsencode(target), recursive, values, ctypes.c_size_t(len(values)))
    checked(result, f"mount_setattr {target}")


def guard(request: dict[str, Any], report: int, parent: int) -> None:
    readable = os.getuid() != 0 or nobody_can_read_library()  # first: a change of user undoes the next line
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    prctl(SET_SUBREAPER, 1)  # what the program leaves behind becomes a child of this process
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # should memory run out, this goes first, not the user's training
    ready, write_ready = os.pipe()
    wait, go = os.pipe()
    missing = []
    keeper = None
    try:
        if not request["namespaces"]:
            raise OSError(0, "namespaces: switched off")
        keeper = clone(request, report, wait, go, ready, write_ready)
    except OSError as error:
        missing.append(error.strerror or str(error))
    filtered = bool(request["filter"]) and has_seccomp()
    if not filtered:
        missing.append("system-call filter: not on this kernel or machine")
    isolated = keeper is not None
    unprivileged = isolated or readable
    if not unprivileged:
        missing.append(
            f"user nobody: cannot read Python's library ({os.path.dirname(os.__file__)}), so it runs as root"
        )
    tell(report, namespaces=isolated, syscall_filter=filtered, unprivileged=unprivileged, missing=missing)
    if request["require_isolation"] and not (isolated and filtered):
        return  # a waiting keeper reads the end of the pipe, and ends
    if keeper is None:
        me = os.getpid()
        keeper = os.fork()
        if keeper == 0:
            prctl(SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)
            os.chdir(request["scratch"])
            keep(request, report, filtered, os.getuid() == 0 and unprivileged)
    prctl(SET_DUMPABLE, 0)
    late = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal late
        late = late or number == signal.SIGALRM
        os.kill(keeper, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, request["wall_seconds"])
    os.write(go, b"2")
    os.waitid(os.P_PID, keeper, os.WEXITED | os.WNOWAIT)  # a zombie still: `end` cannot hit another's number
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    end_children()
    if late:
        tell(report, timeout=True)


def clone(request: dict[str, Any], report: int, wait: int, go: int, ready: int, write_ready: int) -> int:
    """Start the keeper in new namespaces and see that it stands: its process number. OSError names what was refused."""
    if os.uname().machine not in CALLS:
        raise OSError(0, f"namespaces: not tried on {os.uname().machine}")
    flags = ctypes.c_ulong(NEW_NAMESPACES | signal.SIGCHLD)
    zero = ctypes.c_void_p(0)
    keeper = libc.syscall(CALLS[os.uname().machine][0], flags, zero, zero, zero, zero)
    if keeper == 0:
        os.close(go)
        os.close(ready)
        contained(request, report, wait, write_ready)
    checked(keeper, "namespaces: clone")
    os.close(write_ready)
    try:
        map_users(keeper)
        os.write(go, b"1")
        answer = os.read(ready, 4096)
        if answer != b"ready":
            raise OSError(0, f"namespaces: {answer.decode() or 'the process in them died'}")
    except OSError:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        raise
    return int(keeper)


def map_users(pid: int) -> None:
    """Who is who inside. Root's sandbox has root, to build it, and the real nobody, to run in; another user's has that
    user alone, under the name of nobody."""
    for kind, own in (("gid", os.getgid()), ("uid", os.getuid())):
        if os.getuid() == 0:
            lines = f"0 {own} 1\n{NOBODY} {NOBODY} 1\n"
        else:
            lines = f"{NOBODY} {own} 1\n"
            if kind == "gid":
                write(f"/proc/{pid}/setgroups", "deny")  # the kernel's condition for the next line
        try:
            write(f"/proc/{pid}/{kind}_map", lines)
        except OSError as error:
            raise OSError(error.errno, f"namespaces: {kind}_map: {error.strerror}") from None


def write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def contained(request: dict[str, Any], report: int, wait: int, ready: int) -> NoReturn:
    """The keeper's life in the namespaces. An end of file on `wait` means that the guard is gone."""
    try:
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.read(wait, 1) != b"1":
            os._exit(1)
        try:
            build_view(request["scratch"], request["scratch_bytes"])
            drop_privileges(os.getuid() == 0)
            os.write(ready, b"ready")
        except OSError as error:
            os.write(ready, (error.strerror or str(error)).encode())
            os._exit(1)
        if os.read(wait, 1) != b"2":
            os._exit(1)
        keep(request, report, bool(request["filter"]), False)
    finally:
        os._exit(1)  # whatever happens, never on into the guard's code


def build_view(root: str, scratch_bytes: int) -> None:
    """All files that exist inside: Python's library and the system's shared ones, to read; /dev/null; an empty /tmp.
    `root` is any empty folder; what is mounted there, and over /, is seen in this namespace alone."""
    mount("none", "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID, "size=64k,nr_inodes=256,mode=755")
    shown: list[str] = []
    for path in sorted({*LIBRARIES, os.path.join(sys.base_prefix, "lib"), *sys.path}):
        if any(path.startswith(f"{other}/") for other in shown):
            continue
        if os.path.islink(path) and path in LIBRARIES:
            os.symlink(os.readlink(path), root + path)  # /lib is usr/lib
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
            show(path, root + path, ATTR_READ_ONLY | ATTR_NOSUID | ATTR_NODEV)
            shown.append(path)
    for path, attributes in ((LOADER_CACHE, ATTR_READ_ONLY | ATTR_NOSUID | ATTR_NODEV), (os.devnull, ATTR_NOSUID)):
        if os.path.exists(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY, 0o644))
            show(path, root + path, attributes)
    os.mkdir(root + SCRATCH)
    mount("tmpfs", root + SCRATCH, "tmpfs", NOSUID | NODEV, f"size={scratch_bytes},nr_inodes=4096,mode=1777")
    set_attributes(root, ATTR_READ_ONLY, 0)
    os.chdir(root)
    checked(libc.syscall(CALLS[os.uname().machine][1], b".", b"."), "pivot_root")
    checked(libc.umount2(b".", DETACH), "umount the files outside")
    os.chdir(SCRATCH)


def show(source: str, target: str, attributes: int) -> None:
    mount(source, target, None, BIND | REC)
    set_attributes(target, attributes, AT_RECURSIVE)


def drop_privileges(become_nobody: bool) -> None:
    """No capability, and none to be had again by running a file."""
    if become_nobody:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    checked(libc.capset(header, bytes(24)), "capset")
    prctl(SET_NO_NEW_PRIVS, 1)
    prctl(SET_DUMPABLE, 0)
    prctl(SET_PDEATHSIG, signal.SIGKILL)  # the change of user has undone it


def keep(request: dict[str, Any], report: int, filtered: bool, become_nobody: bool) -> NoReturn:
    """Start the program, wait for it, tell how it ended. In namespaces all else ends with this process."""
    done, write_done = os.pipe()
    program = os.fork()
    if program == 0:
        run_program(request, write_done, filtered, become_nobody)
    _, status, usage = os.wait4(program, 0)
    os.close(write_done)
    os.set_blocking(done, False)
    try:
        said = os.read(done, 4096).decode(errors="replace")
    except BlockingIOError:  # nothing in it, and something that the program started still holds the other end
        said = ""
    code = os.waitstatus_to_exitcode(status)
    tell(report, exit_code=code, cpu_seconds=usage.ru_utime + usage.ru_stime, said=said)
    os._exit(0)


def run_program(request: dict[str, Any], done: int, filtered: bool, become_nobody: bool) -> NoReturn:
    """Run the source, and say on `done` how it went: the request's token where it ran to its end."""
    said, code = "", 1
    try:
        os.closerange(3, done)
        os.closerange(done + 1, 1024)
        os.environ.clear()
        source, token = request["source"], request["token"]
        try:
            if become_nobody:
                os.chown(".", NOBODY, NOBODY)
            drop_privileges(become_nobody)
            set_limits(request)
            if filtered:
                install_filter(bytes.fromhex(request["filter"]))
        except (OSError, ValueError) as error:
            said = f"broken {error}"
            raise
        module = type(sys)(PROGRAM)
        sys.modules[PROGRAM] = module
        excepthook = sys.excepthook
        request.clear()
        try:
            exec(compile(source, f"<{PROGRAM}>", "exec"), module.__dict__)
            said, code = token, 0
        except SystemExit as left:  # before its end: not passed, with whatever code
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except MemoryError:
            said = "memory"
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this file's line
            excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        try:
            os.write(done, said.encode())
        finally:
            os._exit(code & 0xFF)


def set_limits(request: dict[str, Any]) -> None:
    for name, value in request["rlimits"].items():
        soft = value
        if name == "RLIMIT_CPU":
            value += 1  # SIGXCPU can be ignored; the kill that comes at the hard limit cannot
        limit = getattr(resource, name)
        _, most = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            soft, value = min(soft, most), min(value, most)
        resource.setrlimit(limit, (soft, value))


def install_filter(program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    address = ctypes.addressof(instructions)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, address))  # struct sock_fprog
    prctl(SET_SECCOMP, SECCOMP_FILTER, header)


def has_seccomp() -> bool:
    try:
        return prctl(GET_SECCOMP, 0) >= 0
    except OSError:
        return False


def nobody_can_read_library() -> bool:
    os.setresuid(-1, NOBODY, -1)
    try:
        os.listdir(os.path.dirname(os.__file__))
        return True
    except OSError:
        return False
    finally:
        os.setresuid(-1, 0, -1)


def end_children() -> None:
    """Collect all processes that have become this one's children, and end those that live, until there is none."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                for name in os.listdir("/proc"):
                    if name.isdigit() and parent_of(name) == os.getpid():
                        os.kill(int(name), signal.SIGKILL)
                os.waitpid(-1, 0)
        except ChildProcessError:
            return


def parent_of(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


def tell(report: int, **values: Any) -> None:
    os.write(report, f"{values!r}\n".encode())


def main() -> None:
    """`guard`, with the request from standard input; the program will find an empty one."""
    sys.dont_write_bytecode = True
    request = marshal.load(sys.stdin.buffer)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    guard(request, int(sys.argv[1]), int(sys.argv[2]))
