"""Which system calls a sandboxed program may not make, as a seccomp filter (kernel documentation: seccomp_filter).

A filter is a small program in classic BPF that the kernel runs before each system call of a process and of everything
the process starts; it cannot be taken off again. Namespaces and resource limits leave gaps that this one closes:
AF_VSOCK sockets reach a virtual machine's host from every network namespace, kernel keyrings belong to the user and
not to a namespace, and memory in shared segments or unmapped files is in no process's limit. Where namespaces are
refused, the filter alone stands between the program and the network, and between it and the user's other processes.

A program is one process with threads: it cannot start another, nor become another.
"""

from __future__ import annotations

import struct

# Call: (number on x86_64, on aarch64), from the kernel's asm/unistd_64.h and asm-generic/unistd.h; None: has no such.
_Numbers = dict[str, tuple[int | None, int | None]]
DENIED: _Numbers = {
    # network; socketpair, which connects a process with itself, stays
    "socket": (41, 198),
    # other processes: start, become, signal, look into, slow down
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that no limit counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # the kernel itself, and what belongs to the user there
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),  # would make other calls past this filter
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
}
# Calls that are judged by what they are asked for.
CLONE = (56, 220)
CLONE3 = (435, 435)
PRLIMIT64 = (302, 261)

MACHINES = ("x86_64", "aarch64")  # the order of the numbers above
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)  # linux/audit.h
_X32_BIT = 0x40000000  # x86_64's second numbering of the same calls

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; the low half of the first argument
ALLOW, KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x00010000


def filter_program(machine: str) -> bytes:
    """The filter for a machine as `platform.machine` names it, as the kernel's array of struct sock_filter.

    A call that is denied fails with EPERM. clone3 hides its flags from filters and is said not to exist, on which the
    C library falls back to clone. ValueError for a machine not in MACHINES.
    """
    if machine not in MACHINES:
        raise ValueError(f"no table of system calls for {machine!r}; there are {', '.join(MACHINES)}")
    column = MACHINES.index(machine)
    deny = _op(_RETURN, _ERRNO | EPERM)
    allow = _op(_RETURN, ALLOW)
    program = _op(_LOAD, _ARCH) + _op(_IF_EQUAL, _AUDIT_ARCH[column], 1, 0) + _op(_RETURN, KILL)
    program += _op(_LOAD, _NUMBER)
    if machine == "x86_64":
        program += _op(_IF_AT_LEAST, _X32_BIT, 0, 1) + deny
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            program += _op(_IF_EQUAL, number, 0, 1) + deny
    program += _op(_IF_EQUAL, CLONE3[column], 0, 1) + _op(_RETURN, _ERRNO | ENOSYS)
    # a thread, yes; a process, no
    program += _op(_IF_EQUAL, CLONE[column], 0, 4)
    program += _op(_LOAD, _ARGUMENT) + _op(_IF_ANY_BIT, CLONE_THREAD, 0, 1) + allow + deny
    # its own limits (process 0), which it can only lower; not another's
    program += _op(_IF_EQUAL, PRLIMIT64[column], 0, 3) + _op(_LOAD, _ARGUMENT) + _op(_IF_EQUAL, 0, 1, 0) + deny
    return program + allow


def _op(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One struct sock_filter; jumps count the instructions to leave out."""
    return struct.pack("=HBBI", code, jump_true, jump_false, value)
