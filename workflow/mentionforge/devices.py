"""Assignment of GPUs to the commands on a machine with several GPUs.

In: the number of GPUs that a command needs. Out: CUDA_VISIBLE_DEVICES of this process. Snakemake limits the number of GPUs but assigns none, so all jobs
would take the first one. A command therefore locks a file per GPU before torch is loaded; the kernel frees the lock when the command ends.
Knows nothing of models.
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
_locks: list[IO[str]] = []
"""Lock files that this process holds."""


def visible(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES; empty without an NVIDIA driver.

    As in CUDA, an invalid name (-1, or Slurm's NoDevFiles) ends the list.
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = environment["CUDA_VISIBLE_DEVICES"].split(",")
        return list(itertools.takewhile(lambda name: re.fullmatch(r"\s*(\d+|(GPU|MIG)-\S+)\s*", name), names))
    numbers = [int(path.name.removeprefix("nvidia")) for path in devices.glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(i) for i in range(len(numbers))]


def claim(count: int = 1) -> None:
    """Claim free GPUs for this process and hide all others from it; wait until enough are free.

    Only the command that holds the turn lock collects GPUs; others wait for that lock. So two commands never block each other with half of the GPUs
    that each needs, and commands that need one GPU do not overtake one that needs several.

    Nothing is claimed if this process sees at most one GPU, or is one of several processes of a training (torchrun).

    Args:
        count: Number of GPUs; 0: none is needed.

    Raises:
        UserError: The machine has GPUs, but fewer than `count`.
    """
    names = visible()
    if not count or not names or "LOCAL_RANK" in os.environ or _locks:
        return
    if len(names) < count:
        fix = "lower finetune.devices or backend.tensor_parallel, or run where there are more"
        raise UserError("too few GPUs", "CUDA_VISIBLE_DEVICES", f"{count} asked for, {len(names)} there", fix)
    if len(names) == 1:
        return
    # In jobs of a scheduler, equal names may mean different GPUs, so each job has its own locks.
    job = next((os.environ[key] for key in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID") if os.environ.get(key)), "machine")
    folder = Path(tempfile.gettempdir()) / f"mentionforge-gpus-{os.getuid()}-{re.sub('[^A-Za-z0-9]', '_', job)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    claimed: dict[str, IO[str]] = {}
    turn_lock: IO[str] | None = None
    waiting = False
    while len(claimed) < count:
        turn_lock = turn_lock or _lock(folder / "turn.lock")
        for name in names if turn_lock else ():
            if name not in claimed and len(claimed) < count and (handle := _lock(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name.strip())}.lock")):
                claimed[name] = handle
        if len(claimed) < count:
            if not waiting:
                say(f"all {len(names)} GPUs are taken; waiting for {count} of them")
                waiting = True
            time.sleep(WAIT_S)
    assert turn_lock
    turn_lock.close()
    _locks.extend(claimed.values())
    claimed_names = [name for name in names if name in claimed]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(claimed_names)
    say(f"on GPU {', '.join(claimed_names)} of {', '.join(names)}")


def _lock(path: Path) -> IO[str] | None:
    """An open file with a lock of this process; None if another process holds the lock."""
    handle: IO[str] = open(path, "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle
