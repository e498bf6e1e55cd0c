"""Started as a program: `python -S run_alone.py LOCK PARENT COMMAND ...` becomes COMMAND, with two promises kept.

It ends in good order (SIGTERM) when PARENT does, even if that is killed, so that no run goes on unseen; and no two
processes train one run: whoever comes second waits for the lock, which the first one holds until it has ended.
Standard library alone, so that it starts at once.
"""

import ctypes
import fcntl
import os
import signal
import sys
import time

PATIENCE_SECONDS = 120.0  # for the earlier process to save
PR_SET_PDEATHSIG = 1  # man 2 prctl


def main() -> None:
    lock, parent, *command = sys.argv[1:]
    # SLURM warns every process of a job; the one above this one passes the warning on, as SIGTERM.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # outlives exec
        if os.getppid() != int(parent):  # it has ended before this line
            sys.exit(128 + signal.SIGTERM)
    held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(held, True)  # the lock goes on into COMMAND
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                print(f"error: another process has been training this run for {PATIENCE_SECONDS:g} s", flush=True)
                sys.exit(2)
            time.sleep(0.1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
