"""Download a model from the Hugging Face hub: resolve the commit, choose the files that are needed, and verify them against the hub's digests.

In: ORG/NAME and a revision. Out: a folder in the hub client's cache (HF_HOME), which other programs share. Without a network, or with HF_HUB_OFFLINE=1,
only the cache is used. Each refusal of the hub becomes one line that says what to do. Knows nothing of stamps and conversions.
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
    """The commit that a branch or tag points to now (None: the main branch); from the cache if the hub cannot be reached.

    Raises:
        UserError: The hub refuses, or it cannot be reached and the cache does not hold the commit.
    """
    from huggingface_hub import HfApi

    try:
        return str(HfApi().resolve_revision(repository, revision=revision).resolved)
    except Exception as error:
        raise refusal(error, repository, revision, key) from error


def download(repository: str, revision: str | None, commit: str, key: str) -> Path:
    """Download the files of a model that are needed into the hub client's cache.

    Safetensors come before .bin, one file before shards; nothing else of the repository is downloaded.

    Args:
        repository: ORG/NAME.
        revision: What the user asked for, for errors.
        commit: Full commit.
        key: Key of the config, for errors.

    Returns:
        The folder of this commit in the cache. It may hold files that other programs asked for.

    Raises:
        UserError: No usable model, a refusal of the hub, a cut-off or changed file, no space.
    """
    from huggingface_hub import snapshot_download

    where = f"{repository}@{commit[:12]}"
    try:
        listed = _listed(repository, commit)
        names = set(listed) if listed is not None else _cached(repository, commit)
        if not names:
            raise UserError("missing model", key, f"{where} is not in the hub's cache, and the hub cannot be reached", ELSEWHERE)
        if listed is None:
            where = f"the cached copy of {where}"
        fix = CHOOSE if listed is not None else ELSEWHERE
        wanted = modelfiles.needed(names, key, where, fix)
        files = [*wanted.beside, wanted.weights]
        if wanted.sharded:
            index = snapshot_download(repository, revision=commit, allow_patterns=[glob.escape(wanted.weights)])
            files += modelfiles.shards(Path(index) / wanted.weights, names, key, where)
        _refuse_full_disk(repository, commit, listed or {}, files, key)
        for attempt in (1, 2):
            folder = Path(snapshot_download(repository, revision=commit, allow_patterns=[glob.escape(name) for name in files]))
            wrong = next(_mismatches(folder, files, listed or {}), None)
            if wrong is None:
                return folder
            path, why = wrong
            if attempt == 2 or listed is None:
                fix = ELSEWHERE if listed is None else "the hub or something between sends it so; try again later"
                raise UserError("damaged download", key, f"{where}: {path.name} {why}", fix)
            say(f"{path.name} in the cache {why}; downloading it again")
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise AssertionError
    except UserError:
        raise
    except Exception as error:
        raise refusal(error, repository, revision, key) from error


def refusal(error: Exception, repository: str, revision: str | None, key: str) -> UserError:
    """The error for the user that stands for an error of the hub client: what it means, and what can be done about it."""
    import httpx2
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    chain = list(_causes(error))

    def among(*kinds: type[BaseException]) -> Any:
        return next((e for e in chain if isinstance(e, kinds)), None)

    asked = f"{repository}@{revision}" if revision else repository
    page = f"{constants.ENDPOINT}/{repository}"
    if any(map(modelfiles.disk_full, chain)):
        return UserError("no space", constants.HF_HUB_CACHE, f"{asked} does not fit", "free some, or set HF_HOME to a larger disk")
    if denied := among(PermissionError):
        return UserError(
            "no permission", str(denied.filename or constants.HF_HUB_CACHE), denied.strerror or "", "set HF_HOME to a folder that you may write to"
        )
    if among(OfflineModeIsEnabled):
        return UserError("missing model", key, f"{asked} is not in the hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set", ELSEWHERE)
    if among(HFValidationError):
        return UserError("bad value", key, f"{repository} is no name of a repository", "write ORG/NAME or ORG/NAME@REVISION")
    if among(RevisionNotFoundError):
        return UserError("unknown revision", key, f"{repository} has no revision {revision}", f"give a branch, a tag or a whole commit from {page}/commits")
    answer = among(HfHubHTTPError)
    status = answer.response.status_code if answer else None
    said = (answer.response.headers.get("X-Error-Message") or "") if answer else ""
    if status == 401 and "credentials" in said.lower():
        place = "HF_TOKEN" if os.environ.get("HF_TOKEN") else str(constants.HF_TOKEN_PATH)
        return UserError("refused token", place, f"the hub says: {said}", f"make one at {constants.ENDPOINT}/settings/tokens, or unset it")
    if among(GatedRepoError):
        if not get_token():
            fix = f"accept it on {page}, then set HF_TOKEN or run `hf auth login`"
            return UserError("gated model", key, f"{repository} asks for its licence to be accepted, and you are not logged in", fix)
        fix = f"accept its licence on {page}, and wait until its authors agree"
        return UserError("gated model", key, f"your account has no access to {repository}" + (f" (the hub says: {said})" if said else ""), fix)
    if among(RepositoryNotFoundError) or status == 401:  # to nobody in particular, the hub does not say whether a repository exists
        fix = "correct the name" + ("" if get_token() else "; if it is private, set HF_TOKEN or run `hf auth login`")
        return UserError("unknown model", key, f"the hub has no {repository} for you", fix)
    if status is not None and status < 500:
        return UserError(
            "refused model", key, f"{asked}: the hub answers {status}" + (f" ({said})" if said else ""), "see what the answer says, or try again later"
        )
    if status is None and (among(httpx2.RemoteProtocolError, httpx2.ReadError) or any("Consistency check" in str(e) for e in chain)):
        return UserError("cut-off download", key, f"{asked} ended before its end", "run it again; whole files are kept")
    reason = f"the hub answers {status}" if status else type(chain[-1]).__name__
    return UserError("unreachable model", key, f"{asked} could not be downloaded from {constants.ENDPOINT} ({reason})", ELSEWHERE)


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
        # The list is asked for again and again for half a minute where nothing answers; this is asked once.
        HfApi().model_info(repository, revision=commit)
        found = HfApi().list_repo_tree(repository, revision=commit)
        return {f.path: ListedFile(f.lfs.size, f.lfs.sha256, None) if f.lfs else ListedFile(f.size, None, f.blob_id) for f in found if isinstance(f, RepoFile)}
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
    """Names of the files of a commit that are in the cache."""
    folder = _snapshot(repository, commit)
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def _refuse_full_disk(repository: str, commit: str, listed: dict[str, ListedFile], files: Collection[str], key: str) -> None:
    held = _cached(repository, commit)
    ask = sum(listed[name].size for name in files if name in listed and name not in held)
    place = next(path for path in _snapshot(repository, commit).parents if path.exists())
    free = shutil.disk_usage(place).free
    if ask > free:
        raise UserError("no space", str(place), f"{key} needs {ask / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free", "free some, or set HF_HOME to a larger disk")


def _mismatches(folder: Path, files: Collection[str], listed: dict[str, ListedFile]) -> Iterator[tuple[Path, str]]:
    """Files that differ from the hub's list, each with the reason. Without a list, they are compared with their names in the cache: a SHA-256 or a git id."""
    for name in sorted(files):
        path = folder / name
        if not path.exists():
            yield path, "is not there"
            continue
        size = path.stat().st_size
        entry = listed.get(name)
        if entry is None:
            called = path.resolve().name if path.is_symlink() else ""
            entry = ListedFile(size, called if len(called) == 64 else None, called if len(called) == 40 else None)
        if size != entry.size:
            yield path, f"has {size:,} bytes, not {entry.size:,}"
        elif entry.sha256 and sha256_file(path) != entry.sha256:
            yield path, f"has not the SHA-256 that the hub gives, {entry.sha256}"
        elif entry.git_id and hashlib.sha1(b"blob %d\0" % size + path.read_bytes(), usedforsecurity=False).hexdigest() != entry.git_id:
            yield path, "is not the file that the hub lists"
