"""Files in a results folder that no job of the plan writes any more.

In: the plan of everything that uses the folder, and Snakemake's records. Out: paths; number of bytes freed. Knows nothing of costs and configuration.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from mentionforge.errors import UserError
from mentionforge.layout import OWNED
from mentionforge.planning.plan import Job


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 if it does not exist."""
    try:
        if path.is_dir():
            return sum(size_of(below) for below in path.iterdir())
        return path.stat().st_size
    except OSError:
        return 0


def leftovers(jobs: Iterable[Job], results: Path, metadata: Path, folder: Path = Path()) -> list[Path]:
    """Files of a results folder that no job of the plan writes any more, sorted.

    A file is left over if Snakemake has recorded it as an output, but no job of the plan writes it; or if it is in a folder in which no job of the
    plan writes. Files that jobs write beside their outputs are kept with these outputs, and so are partial files of interrupted jobs.

    Args:
        jobs: The plan of everything that uses the folder.
        results: The results folder, relative to `folder`.
        metadata: Snakemake's records, `.snakemake/metadata`.
        folder: Folder that paths of the plan are relative to.
    """
    files: set[str] = set()
    folders: set[str] = set()
    for job in jobs:
        files.update(set(job.outputs) - set(job.folders))
        files.update(job.log)
        files.update([job.benchmark] if job.benchmark else [])
        folders.update(job.folders)
    written_folders = {str(Path(path).parent) for path in files | folders}
    recorded = recorded_outputs(metadata)
    left_over = []
    for top in OWNED:
        for path in sorted((folder / results / top).rglob("*")):
            name = str(path.relative_to(folder))
            if (path.is_dir() and not path.is_symlink()) or name in files:
                continue
            parents = [str(parent) for parent in Path(name).parents]
            if any(parent in folders for parent in parents):
                continue
            if (
                name in recorded
                or any(parent in recorded for parent in parents)
                or not any(parent_folder in written_folders for parent_folder in _folders_of(name, parents))
            ):
                left_over.append(path)
    return left_over


def _folders_of(name: str, parents: Sequence[str]) -> list[str]:
    """Folders with whose outputs a file is kept: its own folder; for a file in NAME.checkpoints/ or NAME.merged/, also the folder of NAME."""
    return [parents[0], *(str(Path(parent).parent) for parent in parents if parent.endswith((".checkpoints", ".merged")))]


def recorded_outputs(metadata: Path) -> set[str]:
    """Paths that Snakemake has recorded as outputs. A record is a file whose name is the path in Base64; long names are split into folders."""
    outputs = set()
    for record in metadata.rglob("*") if metadata.is_dir() else ():
        if not record.is_file():
            continue
        text = "".join(part.removeprefix("@") for part in record.relative_to(metadata).parts)
        try:
            outputs.add(base64.b64decode(text, altchars=b"-_").decode())
        except ValueError:
            continue
    return outputs


def clean(paths: Iterable[Path], results: Path) -> int:
    """Delete files and folders that become empty; return the number of bytes freed."""
    freed = 0
    parents: set[Path] = set()
    for path in paths:
        freed += size_of(path)
        path.unlink(missing_ok=True)
        parents.update(parent for parent in path.parents if results in parent.parents)
    for parent in sorted(parents, key=lambda p: -len(p.parts)):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return freed


def refuse_while_locked(folder: Path) -> None:
    """Raise an error if a workflow is running in this folder.

    Raises:
        UserError: Snakemake holds a lock: a workflow is running, or was killed.
    """
    if any((folder / ".snakemake" / "locks").glob("*")):
        raise UserError("locked", str(folder / ".snakemake" / "locks"), "a workflow runs here, or was killed", "wait for it; if none runs: snakemake --unlock")
