"""A GPU of its own for each command, on a machine with several.

Snakemake counts GPUs, and does not say which: every job sees all of them, and takes the first. So a command that computes on a GPU
claims one before torch is loaded, by a lock on a file that the kernel lets go of when the command ends, however it ends. A machine
with one GPU, or a scheduler that gives a job one, needs no claim.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mentionforge.errors import UserError
from mentionforge.progress import say

WAIT_S = 0.5
_held: list[IO[str]] = []
"""Locks of this process."""


def visible(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is no NVIDIA driver.

    As CUDA reads the variable, a name that is none (-1, or Slurm's NoDevFiles) ends the list.
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = environment["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(lambda name: re.fullmatch(r"\s*(\d+|(GPU|MIG)-\S+)\s*", name), names))
    numbers = [int(path.name.removeprefix("nvidia")) for path in devices.glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(i) for i in range(len(numbers))]


def claim(count: int = 1) -> None:
    """Take GPUs that no other command here has taken, and hide the others from this process; wait for them if need be.

    Commands take turns: the one whose turn it is gathers its GPUs, and the others wait behind it. So two commands never hold half of what
    each of them needs, and one that needs several is not passed for ever by those that need one.

    Nothing happens where this process sees no GPU, or the only one, or is one of several that share a training (torchrun).

    Args:
        count: How many; 0: no GPU is needed.

    Raises:
        UserError: There are GPUs, but fewer than that.
    """
    names = visible()
    if not count or not names or "LOCAL_RANK" in os.environ or _held:
        return
    if len(names) < count:
        fix = "lower finetune.devices or backend.tensor_parallel, or run where there are more"
        raise UserError("too few GPUs", "CUDA_VISIBLE_DEVICES", f"{count} asked for, {len(names)} there", fix)
    if len(names) == 1:
        return
    # Within a job of a scheduler the same name may stand for another GPU than in the job beside it.
    job = next((os.environ[key] for key in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID") if os.environ.get(key)), "machine")
    folder = Path(tempfile.gettempdir()) / f"mentionforge-gpus-{os.getuid()}-{re.sub('[^A-Za-z0-9]', '_', job)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: dict[str, IO[str]] = {}
    turn: IO[str] | None = None
    waits = False
    while len(taken) < count:
        turn = turn or _lock(folder / "turn.lock")
        for name in names if turn else ():
            if name not in taken and len(taken) < count and (handle := _lock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name.strip())}.lock")):
                taken[name] = handle
        if len(taken) < count:
            if not waits:
                say(f"all {len(names)} GPUs are taken; waiting for {count} of them")
                waits = True
            time.sleep(WAIT_S)
    assert turn
    turn.close()
    _held.extend(taken.values())
    chosen = [name for name in names if name in taken]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
    say(f"on GPU {', '.join(chosen)} of {', '.join(names)}")


def _lock(path: Path) -> IO[str] | None:
    """An open file that this process has locked; none if another one has."""
    handle: IO[str] = open(path, "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle
