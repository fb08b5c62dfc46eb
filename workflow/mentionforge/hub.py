"""Download of a model from the Hugging Face hub: the commit, the files needed, and their digests.

In: ORG/NAME and a revision. Out: a folder in the hub client's cache (HF_HOME), which other programs share; or a `UserError` that says what to do.
Without a network, or with HF_HUB_OFFLINE=1, only the cache is used. Knows nothing of stamps and conversions.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentionforge import modelfiles
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import sha256_file

CHOOSE = "choose a repository or revision (ORG/NAME@REVISION) that has it"
ELSEWHERE = "fetch it where there is a network, or set `path` to a local copy"


@dataclass(frozen=True)
class ListedFile:
    """A file as the hub lists it: its size, and the SHA-256 of a large file or the git id of a small one."""

    size: int
    sha256: str | None
    git_id: str | None


def commit_of(repository: str, revision: str | None, key: str) -> str:
    """The commit to which a branch or tag points now (None: the main branch); from the cache if the hub cannot be reached.

    Raises:
        UserError: The hub refuses the request; or it cannot be reached, and the cache does not hold the commit.
    """
    from huggingface_hub import HfApi

    try:
        return str(HfApi().resolve_revision(repository, revision=revision).resolved)
    except Exception as error:
        raise user_error_of(error, repository, revision, key) from error


def download(repository: str, revision: str | None, commit: str, key: str) -> Path:
    """Download the files of a model that are needed into the hub client's cache.

    Safetensors are preferred to .bin, and one file to shards. Other files of the repository are not downloaded.

    Args:
        repository: ORG/NAME.
        revision: Revision in the settings, for errors.
        commit: Full commit.
        key: Key of the config, for errors.

    Returns:
        The folder of this commit in the cache. It may hold files that other programs downloaded.

    Raises:
        UserError: The repository holds no usable model, the hub refuses the request, a file is cut off or changed, or the disk is full.
    """
    from huggingface_hub import snapshot_download

    where = f"{repository}@{commit[:12]}"
    try:
        hub_files = _listed(repository, commit)
        names = set(hub_files) if hub_files is not None else _cached(repository, commit)
        if not names:
            raise UserError("missing model", key, f"{where} is not in the hub's cache, and the hub cannot be reached", ELSEWHERE)
        if hub_files is None:
            where = f"the cached copy of {where}"
        fix = CHOOSE if hub_files is not None else ELSEWHERE
        needed = modelfiles.needed(names, key, where, fix)
        files = [*needed.beside, needed.weights]
        if needed.sharded:
            index = snapshot_download(repository, revision=commit, allow_patterns=[glob.escape(needed.weights)])
            files += modelfiles.shards(Path(index) / needed.weights, names, key, where)
        _refuse_full_disk(repository, commit, hub_files or {}, files, key)
        for attempt in (1, 2):
            folder = Path(snapshot_download(repository, revision=commit, allow_patterns=[glob.escape(name) for name in files]))
            mismatch = next(_mismatches(folder, files, hub_files or {}), None)
            if mismatch is None:
                return folder
            path, reason = mismatch
            if attempt == 2 or hub_files is None:
                fix = ELSEWHERE if hub_files is None else "the hub or something between sends it so; try again later"
                raise UserError("damaged download", key, f"{where}: {path.name} {reason}", fix)
            say(f"{path.name} in the cache {reason}; downloading it again")
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise AssertionError
    except UserError:
        raise
    except Exception as error:
        raise user_error_of(error, repository, revision, key) from error


def user_error_of(error: Exception, repository: str, revision: str | None, key: str) -> UserError:
    """A `UserError` for an error of the hub client: what it means, and what the user can do."""
    import httpx2
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    chain = list(_causes(error))

    def first_of(*kinds: type[BaseException]) -> Any:
        return next((e for e in chain if isinstance(e, kinds)), None)

    requested = f"{repository}@{revision}" if revision else repository
    page = f"{constants.ENDPOINT}/{repository}"
    if any(map(modelfiles.disk_full, chain)):
        return UserError("no space", constants.HF_HUB_CACHE, f"{requested} does not fit", "free some, or set HF_HOME to a larger disk")
    if denied := first_of(PermissionError):
        return UserError(
            "no permission", str(denied.filename or constants.HF_HUB_CACHE), denied.strerror or "", "set HF_HOME to a folder that you may write to"
        )
    if first_of(OfflineModeIsEnabled):
        return UserError("missing model", key, f"{requested} is not in the hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set", ELSEWHERE)
    if first_of(HFValidationError):
        return UserError("bad value", key, f"{repository} is no name of a repository", "write ORG/NAME or ORG/NAME@REVISION")
    if first_of(RevisionNotFoundError):
        return UserError("unknown revision", key, f"{repository} has no revision {revision}", f"give a branch, a tag or a whole commit from {page}/commits")
    answer = first_of(HfHubHTTPError)
    status = answer.response.status_code if answer else None
    message = (answer.response.headers.get("X-Error-Message") or "") if answer else ""
    if status == 401 and "credentials" in message.lower():
        place = "HF_TOKEN" if os.environ.get("HF_TOKEN") else str(constants.HF_TOKEN_PATH)
        return UserError("refused token", place, f"the hub says: {message}", f"make one at {constants.ENDPOINT}/settings/tokens, or unset it")
    if first_of(GatedRepoError):
        if not get_token():
            fix = f"accept it on {page}, then set HF_TOKEN or run `hf auth login`"
            return UserError("gated model", key, f"{repository} asks for its licence to be accepted, and you are not logged in", fix)
        fix = f"accept its licence on {page}, and wait until its authors agree"
        return UserError("gated model", key, f"your account has no access to {repository}" + (f" (the hub says: {message})" if message else ""), fix)
    if first_of(RepositoryNotFoundError) or status == 401:  # without a login, the hub does not tell whether a repository exists
        fix = "correct the name" + ("" if get_token() else "; if it is private, set HF_TOKEN or run `hf auth login`")
        return UserError("unknown model", key, f"the hub has no {repository} for you", fix)
    if status is not None and status < 500:
        return UserError(
            "refused model",
            key,
            f"{requested}: the hub answers {status}" + (f" ({message})" if message else ""),
            "see what the answer says, or try again later",
        )
    if status is None and (first_of(httpx2.RemoteProtocolError, httpx2.ReadError) or any("Consistency check" in str(e) for e in chain)):
        return UserError("cut-off download", key, f"{requested} ended before its end", "run it again; whole files are kept")
    reason = f"the hub answers {status}" if status else type(chain[-1]).__name__
    return UserError("unreachable model", key, f"{requested} could not be downloaded from {constants.ENDPOINT} ({reason})", ELSEWHERE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _listed(repository: str, commit: str) -> dict[str, ListedFile] | None:
    """The files of a commit by name, without those in folders; None if the hub cannot be reached."""
    import httpx2
    from huggingface_hub import HfApi, RepoFile
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        # Unlike list_repo_tree, this request is not repeated for half a minute if the hub does not answer.
        HfApi().model_info(repository, revision=commit)
        entries = HfApi().list_repo_tree(repository, revision=commit)
        return {
            f.path: ListedFile(f.lfs.size, f.lfs.sha256, None) if f.lfs else ListedFile(f.size, None, f.blob_id) for f in entries if isinstance(f, RepoFile)
        }
    except (httpx2.TransportError, OfflineModeIsEnabled):
        if not _cached(repository, commit):
            raise
    except HfHubHTTPError as error:
        if error.response.status_code < 500 or not _cached(repository, commit):
            raise
    say(f"{repository} is taken from the cache: the hub is not reached")
    return None


def _snapshot(repository: str, commit: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}" / "snapshots" / commit


def _cached(repository: str, commit: str) -> set[str]:
    """Names of the files of a commit in the cache."""
    folder = _snapshot(repository, commit)
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def _refuse_full_disk(repository: str, commit: str, hub_files: dict[str, ListedFile], files: Collection[str], key: str) -> None:
    cached = _cached(repository, commit)
    missing_bytes = sum(hub_files[name].size for name in files if name in hub_files and name not in cached)
    disk = next(path for path in _snapshot(repository, commit).parents if path.exists())
    free = shutil.disk_usage(disk).free
    if missing_bytes > free:
        raise UserError(
            "no space", str(disk), f"{key} needs {missing_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free", "free some, or set HF_HOME to a larger disk"
        )


def _mismatches(folder: Path, files: Collection[str], hub_files: dict[str, ListedFile]) -> Iterator[tuple[Path, str]]:
    """Files that differ from the hub's list, with the reason. Files that are not listed are compared with their names in the cache: a SHA-256 or a git id."""
    for name in sorted(files):
        path = folder / name
        if not path.exists():
            yield path, "is not there"
            continue
        size = path.stat().st_size
        entry = hub_files.get(name)
        if entry is None:
            cache_name = path.resolve().name if path.is_symlink() else ""
            entry = ListedFile(size, cache_name if len(cache_name) == 64 else None, cache_name if len(cache_name) == 40 else None)
        if size != entry.size:
            yield path, f"has {size:,} bytes, not {entry.size:,}"
        elif entry.sha256 and sha256_file(path) != entry.sha256:
            yield path, f"has not the SHA-256 that the hub gives, {entry.sha256}"
        elif entry.git_id and hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False).hexdigest() != entry.git_id:
            yield path, "is not the file that the hub lists"
