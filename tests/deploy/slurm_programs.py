"""Stand-ins for ``srun`` and ``scontrol``: "nodes" are names, and all of them are this machine.

They do what Slurm 22.05 was seen to do where `deploy/slurm.sbatch` depends on it: ``srun`` hands
its standard input to all tasks and kills them, with all that they started, when it gets SIGTERM; a
requeued job's script gets SIGTERM. Options that the script does not use are refused. Each call is
a line of ``$SLURM_STAND_IN/calls.jsonl``.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

OPTIONS = {"export", "nodelist", "nodes", "ntasks", "cpus-per-task", "kill-on-bad-exit", "wait"}


def main() -> int:
    program, *words = sys.argv[1:]
    return {"srun": srun, "scontrol": scontrol}[program](words)


def note(**call) -> None:
    with (Path(os.environ["SLURM_STAND_IN"]) / "calls.jsonl").open("a") as file:
        file.write(json.dumps(call) + "\n")


def srun(words: list[str]) -> int:
    options = {}
    while words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        options[name] = value
    assert set(options) <= OPTIONS, options
    nodes = options["nodelist"].split(",")
    assert len(nodes) == int(options["nodes"]) == int(options["ntasks"])
    tasks = []

    def kill(number, frame) -> None:
        note(program="srun", nodes=nodes, killed=True)
        for task in tasks:
            for process in [*psutil.Process(task.pid).children(recursive=True), task]:
                process.kill()

    signal.signal(signal.SIGTERM, kill)
    for node in nodes:
        # tasks are of no process group of the script's
        variables = {"SLURMD_NODENAME": node, "SLURM_CPUS_PER_TASK": options["cpus-per-task"]}
        task = subprocess.Popen(words, env=os.environ | variables, start_new_session=True)
        tasks.append(task)
    note(program="srun", nodes=nodes, words=words[3:], variables=ray_variables())
    return max(task.wait() for task in tasks)


def ray_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def scontrol(words: list[str]) -> int:
    match words:
        case ["show", "hostnames", nodes]:
            first, last = re.fullmatch(r"n\[(\d)-(\d)\]", nodes).groups()
            print(*(f"n{number}" for number in range(int(first), int(last) + 1)), sep="\n")
        case ["requeue", job]:
            note(program="scontrol", requeued=job)
            os.kill(os.getppid(), signal.SIGTERM)
        case _:
            raise AssertionError(words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
