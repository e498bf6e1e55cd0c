"""A stand-in for SLURM: its commands, on PATH, as far as a sweep and submitit use them. A job is a process of this
machine; its state is a file in queue/, which a test may write too. Jobs wait while queue/held exists. squeue's answers
and sbatch's refusal are those of SLURM 22.05."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, pathlib, re, signal, subprocess, sys, time

queue = pathlib.Path(__file__).parent.parent / "queue"
command, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]

def read(job):
    return (queue / job).read_text().split("|")

def write(job, state, reason="None"):
    (queue / f".{job}").write_text(f"{state}|{reason}")
    os.replace(queue / f".{job}", queue / job)

def known():
    return sorted(path.name for path in queue.iterdir() if path.name[0].isdigit())

if command == "sbatch" and arguments[0] != "--run":
    text = pathlib.Path(arguments[0]).read_text()
    if "--partition=nosuch" in text:
        sys.exit("sbatch: error: invalid partition specified: nosuch\\n"
                 "sbatch: error: Batch job submission failed: Invalid partition name specified")
    number = 1 + max([int(job.split("_")[0]) for job in known()], default=0)
    array = re.search(r"--array=0-(\\d+)%", text)
    for job in [f"{number}_{k}" for k in range(int(array[1]) + 1)] if array else [str(number)]:
        write(job, "PENDING", "Priority")
        subprocess.Popen([sys.executable, "-S", __file__, "--run", job, arguments[0]], start_new_session=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("Submitted batch job", number)
elif command == "sbatch":
    job, script = arguments[1:]
    while (queue / "held").exists() and read(job)[0] == "PENDING":
        time.sleep(0.02)
    if read(job)[0] != "PENDING":
        sys.exit()
    number, _, task = job.partition("_")
    os.environ.update({"SLURM_JOB_ID": job.replace("_", "00"), "SLURM_ARRAY_JOB_ID": number,
                       "SLURM_ARRAY_TASK_ID": task} if task else {"SLURM_JOB_ID": job})
    write(job, "RUNNING")
    child = subprocess.Popen(["bash", os.path.realpath(script)], start_new_session=True)
    (queue / f"pid_{job}").write_text(str(child.pid))
    code = child.wait()
    write(job, "CANCELLED" if read(job)[0] == "COMPLETING" else "FAILED" if code else "COMPLETED")
elif command == "srun":
    paths, rest = {}, [word for word in arguments if word != "--unbuffered"]
    while rest[0].startswith("--"):
        paths[rest[0]], rest = rest[1], rest[2:]
    values = {"%j": "SLURM_JOB_ID", "%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID"}
    for option, stream in (("--output", 1), ("--error", 2)):
        name = re.sub("%[jAa]", lambda found: os.environ[values[found[0]]], paths[option]).replace("%t", "0")
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.execvp(rest[0], rest)
elif command == "squeue":
    if (queue / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    (asked,) = [word.split("=")[1].split(",") for word in arguments if word.startswith("--jobs=")]
    found = [job for job in known() if job.split("_")[0] in asked]
    if not found and len(asked) == 1:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for job in found:
        print("|".join([job, *read(job)]))
elif command == "scancel":
    if read(arguments[0])[0] == "PENDING":
        write(arguments[0], "CANCELLED")
    elif read(arguments[0])[0] == "RUNNING":
        write(arguments[0], "COMPLETING")
        os.killpg(int((queue / f"pid_{arguments[0]}").read_text()), signal.SIGTERM)
elif command == "scontrol":
    (queue / "scontrol").open("a").write(" ".join(arguments) + "\\n")
"""


class FakeSlurm:
    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.queue = home / "queue"
        self.queue.mkdir()
        commands = home / "commands"
        commands.mkdir()
        for name in ("sbatch", "srun", "squeue", "scancel", "scontrol"):
            (commands / name).write_text(f"#!{sys.executable} -S\n{PROGRAM}")
            (commands / name).chmod(0o755)
        patch.setenv("PATH", f"{commands}:{os.environ['PATH']}")

    def hold(self) -> None:
        (self.queue / "held").touch()

    def release(self) -> None:
        (self.queue / "held").unlink()

    def set(self, job: str, state: str) -> None:
        """`state` as squeue writes it, with the reason: "PENDING|Priority"."""
        (self.queue / f".{job}").write_text(state)
        os.replace(self.queue / f".{job}", self.queue / job)

    @property
    def jobs(self) -> dict[str, str]:
        """State and reason by job."""
        return {path.name: path.read_text() for path in self.queue.iterdir() if path.name[0].isdigit()}

    def wait(self, seconds: float = 20.0) -> None:
        """Until no job waits or runs."""
        deadline = time.monotonic() + seconds
        while any(state.startswith(("PENDING", "RUNNING", "COMPLETING")) for state in self.jobs.values()):
            assert time.monotonic() < deadline, self.jobs
            time.sleep(0.02)
