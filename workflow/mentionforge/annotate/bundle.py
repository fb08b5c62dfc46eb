"""Write and read bundles: folders, or .tar files of them, with all that annotation needs, to be carried to where the notes are.

In: the `Materials` of an annotator. Out: a bundle; and back. A bundle has no pickles and no code; reading checks every file against its digest, and
settings and arrays against each other. Knows nothing of results folders (`cells`).
"""

# Layout of a bundle:
#     bundle.json         settings, thresholds, provenance, and the SHA-256 of every other file
#     SHA256SUMS.txt      the SHA-256 of bundle.json (`sha256sum -c SHA256SUMS.txt`)
#     README.md           a card for people
#     recognizer/         weights (safetensors) and tokenizer; or dictionary.parquet
#     concepts.parquet    names and semantic types of the concepts in the index
#     xrefs.parquet       their codes; licensed ones only with --licensed-text
#     linkers/N/          encoder/ (weights and tokenizer); for each source entries.parquet and vectors.npy; codes.parquet, weights.npy
# Entries that are compared as vectors have no strings, and no file names a document.

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from mentionforge import __version__, models, tables, tokenization
from mentionforge.annotate.bundle_card import card
from mentionforge.annotate.bundle_manifest import FORMAT, MANIFEST, SUMS, check, damaged, files_of, sums_of
from mentionforge.annotate.codes import own_vocabularies
from mentionforge.annotate.pipeline import Materials
from mentionforge.annotate.vocabularies import is_licensed
from mentionforge.errors import UserError
from mentionforge.normalization.linkers import HybridLinker, Linker
from mentionforge.normalization.loaded import IndexedLinker, inconsistency
from mentionforge.normalization.settings import Index
from mentionforge.progress import say
from mentionforge.provenance import git_revision, sha256_file

_LINKER: TypeAdapter[Any] = TypeAdapter(Linker)
_WEIGHTS = (".json", ".txt", ".model", ".safetensors")
XREFS = "xrefs.parquet"
"""File with the codes of the concepts."""


def write(materials: Materials, out: Path, licensed_text: bool = False) -> None:
    """Write a bundle.

    Args:
        materials: From `cells.find`.
        out: Folder, or a file that ends in .tar; it must not exist.
        licensed_text: Allow licensed text in it.

    Raises:
        UserError: `out` exists, or the bundle would hold licensed text without permission.
    """
    if out.exists():
        raise UserError("bundle exists", str(out), "", "name another one, or remove it")
    licensed = [*materials.licensed, *(f"concept ids of {name}" for name in sorted(own_vocabularies(materials.concepts["cui"])) if is_licensed(name))]
    if licensed and not licensed_text:
        raise UserError("licensed text", str(out), f"it would hold text of: {', '.join(licensed)}", "add --licensed-text if it stays where you may have it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / (out.stem if out.suffix == ".tar" else out.name)
        folder.mkdir()
        manifest = _write_files(dataclasses.replace(materials, licensed=licensed), folder, licensed_text)
        (folder / "README.md").write_text(card(manifest), encoding="utf-8")
        manifest["files"] = {p.relative_to(folder).as_posix(): sha256_file(p) for p in files_of(folder)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (folder / SUMS).write_text(sums_of(folder), encoding="utf-8")
        size = sum(p.stat().st_size for p in files_of(folder))
        if out.suffix == ".tar":
            with tarfile.open(Path(scratch) / "whole.tar", "w", format=tarfile.PAX_FORMAT) as archive:
                archive.add(folder, folder.name, filter=_without_owner)
            os.replace(Path(scratch) / "whole.tar", out)
        else:
            os.replace(folder, out)
    say(f"bundle of {size / 1e6:.0f} MB written to {out}")


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without owner and time, so that equal bundles are equal bytes."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _write_files(materials: Materials, folder: Path, licensed_text: bool) -> dict[str, Any]:
    """Write all files but the card and the manifest; return the manifest, without digests."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "mentionforge": __version__,
        "git_revision": git_revision(),
        "dtype": materials.dtype,
        "hybrid": materials.hybrid.model_dump(mode="json") if materials.hybrid else None,
        "weights": list(materials.weights),
        "nil_threshold": materials.nil_threshold,
        "spell_out": materials.spell_out,
        "licensed": list(materials.licensed),
        "card": dict(materials.card),
        "linkers": [],
    }
    if materials.recognizer is not None:
        _copy(materials.recognizer, folder / "recognizer")
    else:
        assert materials.dictionary is not None
        names = pa.table({"name": pa.array(materials.dictionary["names"], pa.string())})
        _write_parquet(names, folder / "recognizer" / "dictionary.parquet")
        manifest["dictionary"] = {k: materials.dictionary[k] for k in ("min_length", "stop")}
    cuis: set[str] = set()
    for number, linker_part in enumerate(materials.linkers):
        target = folder / "linkers" / str(number)
        manifest["linkers"].append(
            {
                "linker": linker_part.linker.model_dump(mode="json"),
                "index": linker_part.index.model_dump(mode="json"),
                "sources": {name: len(table) for name, (table, _) in linker_part.entries.items()},
            }
        )
        if linker_part.model is not None:
            _copy(models.folder(linker_part.model), target / "encoder")
            reference = {"bundle": number, "lowercase": tokenization.case_of(linker_part.model)}
            (target / "fetched.json").write_text(json.dumps({"folder": "encoder", "reference": reference}) + "\n", encoding="utf-8")
        for name, (table, inputs) in linker_part.entries.items():
            _write_entries(linker_part, name, table, inputs, target / name)
            cuis.update(table["cuis"].combine_chunks().flatten().unique().to_pylist())
        if linker_part.codes is not None:
            _write_parquet(linker_part.codes, target / "codes.parquet")
        if linker_part.weights is not None:
            np.save(target / "weights.npy", linker_part.weights)
    kept = materials.concepts.filter(pc.is_in(materials.concepts["cui"], value_set=pa.array(sorted(cuis), tables.STR)))
    column = kept.schema.get_field_index("definition")
    undefined = kept.set_column(column, "definition", pa.nulls(len(kept), tables.STR))
    tables.write(tables.CONCEPTS, folder / "concepts.parquet", undefined)
    manifest["concepts"] = len(kept)
    manifest["codes"] = _write_codes(materials, kept["cui"], folder / XREFS, licensed_text)
    manifest["licensed"] += [f"codes of {name}" for name in manifest["codes"]["held"] if is_licensed(name)]
    return manifest


def _write_codes(materials: Materials, concept_ids: pa.ChunkedArray, target: Path, licensed_text: bool) -> dict[str, dict[str, int]]:
    """Write the codes of some concepts, and return their numbers by vocabulary: those that are held, and licensed ones that are left out."""
    if materials.xrefs is None or not materials.xrefs.is_file():
        say("the bundle holds no codes (--codes): the knowledge base has no xrefs.parquet")
        return {"held": {}, "left_out": {}}
    codes = tables.read(tables.XREFS, materials.xrefs)
    codes = codes.filter(pc.is_in(codes["cui"], value_set=concept_ids.combine_chunks()))
    counts = {row["values"]: row["counts"] for row in sorted(codes["source"].value_counts().to_pylist(), key=lambda row: str(row["values"]))}
    left_out = {} if licensed_text else {name: n for name, n in counts.items() if is_licensed(name)}
    if left_out:
        listed = ", ".join(f"{name} ({n:,})" for name, n in left_out.items())
        say(f"licensed codes are left out of the bundle: {listed}; add --licensed-text if it stays where you may have them")
        codes = codes.filter(pc.invert(pc.is_in(codes["source"], value_set=pa.array(list(left_out), tables.STR))))
    tables.write(tables.XREFS, target, codes)
    return {"held": {name: n for name, n in counts.items() if name not in left_out}, "left_out": left_out}


def _copy(source: Path, target: Path) -> None:
    """Copy weights, tokenizer and settings of a model folder; skip pickles and code."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in _WEIGHTS:
            shutil.copyfile(path, target / path.name)


def _write_entries(linker_part: IndexedLinker, name: str, table: pa.Table, inputs: Any, target: Path) -> None:
    """Write the entries of an index: only vectors that are used, and strings only if the linker compares strings."""
    rows, vector = np.unique(table["vector"].to_numpy(), return_inverse=True)
    none = pa.nulls(len(table), tables.STR)
    dense = linker_part.linker.embeds
    compact = pa.table(
        {
            "entry_id": pa.array([f"{name}|{i:08d}" for i in range(len(table))], tables.STR),
            "text": pa.array([""] * len(table), tables.STR) if dense else table["text"],
            "vector": pa.array(vector, tables.INT),
            "cuis": table["cuis"],
            "split": none,
            "note_id": none,
        }
    )
    tables.write(tables.EMBEDDED, target / "entries.parquet", compact)
    if dense:
        np.save(target / "vectors.npy", np.ascontiguousarray(inputs[rows], np.float32))


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


# ------------------------------------------------------------------------------------------------------------------ reading


def read(path: Path, licensed_text: bool = False, scratch: Path | None = None) -> Materials:
    """Read and check a bundle.

    Args:
        path: Folder or .tar; a .tar is unpacked to a folder that is removed at the end of the process.
        licensed_text: Allow licensed text in it.
        scratch: Folder to unpack a .tar in; none: the system's temporary folder.

    Raises:
        UserError: It is no bundle, has an unknown format, differs from its digests, or holds licensed text without permission.
    """
    folder = _unpack_archive(path, scratch) if path.is_file() else path
    manifest = check(folder)
    if manifest["licensed"] and not licensed_text:
        raise UserError("licensed text", str(path), f"the bundle holds text of: {', '.join(manifest['licensed'])}", "add --licensed-text if you may use it")
    try:
        return _materials(folder, manifest)
    except (pa.ArrowException, OSError, ValueError, EOFError, KeyError, TypeError, IndexError, MemoryError, OverflowError) as error:
        raise damaged(folder, f"{type(error).__name__}: {error!s:.200}") from error


def _check_models(folder: Path) -> None:
    """Check that the files of models can be opened; their contents are checked by those that load them."""
    from safetensors import SafetensorError, safe_open

    for path in files_of(folder):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="numpy") as weights:
                    weights.keys()
        except (SafetensorError, ValueError, RecursionError) as error:
            raise damaged(folder, f"{path.relative_to(folder).as_posix()}: {type(error).__name__}: {error!s:.200}") from error


def _materials(folder: Path, manifest: Mapping[str, Any]) -> Materials:
    _check_models(folder)
    linkers = []
    concepts = tables.read(tables.CONCEPTS, folder / "concepts.parquet")
    for number, row in enumerate(manifest["linkers"]):
        linker_folder = folder / "linkers" / str(number)
        linker, index = _LINKER.validate_python(row["linker"]), Index.model_validate(row["index"])
        if not linker.searches:
            raise damaged(folder, f"linker {number} is a {linker.kind} linker, which searches nothing by itself")
        entries: dict[str, tuple[pa.Table, Any]] = {}
        for name in ("train", "kb", "synthetic"):
            if name in row["sources"]:
                entries[name] = _read_entries(linker, linker_folder / name)
                if len(entries[name][0]) != row["sources"][name]:
                    raise damaged(folder, f"linkers/{number}/{name} has {len(entries[name][0]):,} entries, not the {row['sources'][name]:,} of {MANIFEST}")
        codes = tables.read(tables.XREFS, linker_folder / "codes.parquet") if (linker_folder / "codes.parquet").is_file() else None
        weights = np.load(linker_folder / "weights.npy", allow_pickle=False) if (linker_folder / "weights.npy").is_file() else None
        model = linker_folder / "fetched.json"
        searched = IndexedLinker(linker, index, model if model.is_file() else None, entries, codes, weights)
        problem = inconsistency(searched, concepts["cui"])
        if problem:
            raise damaged(folder, f"linkers/{number}: {problem}")
        linkers.append(searched)
    hybrid = HybridLinker.model_validate(manifest["hybrid"]) if manifest["hybrid"] else None
    expected = len(hybrid.linkers) if hybrid else 1
    if len(linkers) != expected or (hybrid and len(manifest["weights"]) != expected):
        raise damaged(folder, f"{len(linkers)} linkers with {len(manifest['weights'])} weights, where {expected} are wanted")
    dictionary = None
    if manifest.get("dictionary"):
        import pyarrow.parquet as pq

        names = pq.read_table(folder / "recognizer" / "dictionary.parquet")["name"].to_pylist()
        if not all(isinstance(name, str) for name in names):
            raise damaged(folder, "recognizer/dictionary.parquet holds names that are no text")
        dictionary = {"names": names, **manifest["dictionary"]}
    elif not (folder / "recognizer").is_dir():
        raise damaged(folder, "it has no recognizer")
    return Materials(
        recognizer=None if dictionary else folder / "recognizer",
        dtype=manifest["dtype"],
        dictionary=dictionary,
        linkers=linkers,
        hybrid=hybrid,
        weights=manifest["weights"],
        concepts=concepts,
        nil_threshold=manifest["nil_threshold"],
        spell_out=manifest["spell_out"],
        card={**manifest["card"], "bundle": sha256_file(folder / MANIFEST)},
        licensed=manifest["licensed"],
        xrefs=_codes_of(folder, manifest),
        withheld=manifest.get("codes", {}).get("left_out", {}),
    )


def _codes_of(folder: Path, manifest: Mapping[str, Any]) -> Path | None:
    """The file of codes, checked against the manifest; None if the bundle was written without."""
    path = folder / XREFS
    if not path.is_file():
        return None
    counts = {row["values"]: row["counts"] for row in tables.read(tables.XREFS, path)["source"].value_counts().to_pylist()}
    if counts != manifest.get("codes", {}).get("held"):
        raise damaged(folder, f"{XREFS} has other codes than {MANIFEST} says")
    return path


def _read_entries(linker: Any, folder: Path) -> tuple[pa.Table, Any]:
    table = tables.read(tables.EMBEDDED, folder / "entries.parquet")
    if linker.embeds:
        return table, np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    rows = table["vector"].to_pylist()
    size = max(rows, default=-1) + 1
    if size > len(rows) or min(rows, default=0) < 0:
        raise ValueError(f"{folder.name}/entries.parquet names inputs that it does not have")
    texts = [""] * size
    for row, text in zip(rows, table["text"].to_pylist(), strict=True):
        texts[row] = text
    return table, texts


_unpacked_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Folders of unpacked bundles; kept until the process ends, because their vectors are memory-mapped."""


def _unpack_archive(path: Path, scratch: Path | None) -> Path:
    holder = tempfile.TemporaryDirectory(dir=scratch, prefix="mentionforge-bundle-")
    _unpacked_folders.append(holder)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                _unpack(archive, member, Path(holder.name))
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, KeyError, IndexError) as error:
        raise UserError("no bundle", str(path), f"not readable as .tar ({type(error).__name__})", "fetch or write it again") from error
    children = sorted(Path(holder.name).iterdir())
    return children[0] if len(children) == 1 and children[0].is_dir() else Path(holder.name)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Extract a member if it is a plain file below the folder; Python before 3.11.4 has no extraction filters."""
    path = Path(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()) or member.issparse():
        raise UserError("no bundle", str(archive.name), f"{member.name} is no plain file inside it", "fetch or write it again")
    if member.isdir():
        return
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with cast(IO[bytes], archive.extractfile(member)) as source, (folder / path).open("xb") as target:
        shutil.copyfileobj(source, target)
