"""A GPU of its own for each command, on a machine with several.

Snakemake counts GPUs, and does not say which: every job sees all of them, and takes the first. So a command that computes on a GPU
claims one before torch is loaded, by a lock on a file that the kernel lets go of when the command ends, however it ends. A machine
with one GPU, or a scheduler that gives a job one, needs no claim.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mentionforge.progress import say

WAIT_S = 0.5
_held: list[IO[str]] = []
"""Locks of this process."""


def visible(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is no NVIDIA driver."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    numbers = [int(path.name.removeprefix("nvidia")) for path in devices.glob("nvidia[0-9]*") if re.fullmatch(r"nvidia\d+", path.name)]
    return [str(i) for i in range(len(numbers))]


def claim(count: int = 1) -> None:
    """Take GPUs that no other command here has taken, and hide the others from this process; wait for them if need be.

    Nothing happens where this process sees one GPU or none, or is one of several that share a training (torchrun).

    Args:
        count: How many, all at once or none; 0: no GPU is needed.
    """
    names = visible()
    if not count or len(names) < 2 or "LOCAL_RANK" in os.environ or _held:
        return
    count = min(count, len(names))
    # Within a job of a scheduler the same name may stand for another GPU than in the job beside it.
    job = next((os.environ[key] for key in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID") if os.environ.get(key)), "machine")
    folder = Path(tempfile.gettempdir()) / f"mentionforge-gpus-{os.getuid()}-{re.sub('[^A-Za-z0-9]', '_', job)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waits = False
    while len(taken := _take(folder, names, count)) < count:
        if not waits:
            say(f"all {len(names)} GPUs are taken; waiting for {count} of them")
            waits = True
        time.sleep(WAIT_S)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    say(f"on GPU {', '.join(taken)} of {', '.join(names)}")


def _take(folder: Path, names: list[str], count: int) -> list[str]:
    """Lock as many of the devices as are wanted, and none if there are fewer."""
    found: list[tuple[str, IO[str]]] = []
    handle: IO[str]
    for name in names:
        handle = open(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name.strip())}.lock", "w", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            continue
        found.append((name, handle))
        if len(found) == count:
            _held.extend(handle for _, handle in found)
            return [name for name, _ in found]
    for _, handle in found:
        handle.close()
    return []
