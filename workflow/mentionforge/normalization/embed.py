"""Embeddings of names, gold mentions and synthetic mentions, computed once per linker and source.

In: tables of names, documents, notes and mentions. Out: a folder with entries.parquet (tables.EMBEDDED) and vectors.npy
(float32 [distinct inputs, dimensions], C order, for memory mapping). Knows nothing of indexes and strategies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mentionforge import provenance, tables
from mentionforge.encoders import Spans
from mentionforge.errors import UserError
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.linkers.contract import SearchingLinker
from mentionforge.progress import say
from mentionforge.specs import read_spec

# Which entries share a row of vectors.npy: entries with the same word pieces. A `mention` linker embeds the mention's string, a `context` linker
# the mention in a window of its text; a name of the knowledge base has no context. A linker without an encoder (`tfidf`, `exact`) compares
# strings: entries with equal strings share a row, and the rows have no dimensions. One exception: for the names of a `tfidf` linker,
# vectors.npy holds a single row, the weights of the hashed n-grams.


VERSION = 2
"""Of the part normalization.embed: raise it where earlier results would be wrong (mentionforge.versions)."""


def embed_kb(spec: Path, model: Path | None, names: Path, out: Path) -> None:
    """Embed every distinct name; a name of several concepts is one entry with all their CUIs.

    `entry_id` is `kb|` and the position of the name among the sorted distinct names, in eight digits.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights; none for a linker without an encoder.
        names: tables.NAMES.
        out: Folder to write.
    """
    table = tables.read(tables.NAMES, names)
    grouped = table.select(["name", "cui"]).group_by("name").aggregate([("cui", "distinct")]).sort_by("name")
    texts = grouped.column("name").to_pylist()
    cuis = [sorted(c) for c in grouped.column("cui_distinct").to_pylist()]
    say(f"{len(table):,} names, {len(texts):,} distinct, {sum(len(c) > 1 for c in cuis):,} of them of several concepts")
    ids = [f"kb|{i:08d}" for i in range(len(texts))]
    _embed(spec, model, out, ids, texts, cuis, texts, [(i, ((0, len(t)),)) for i, t in enumerate(texts)], stage="embed-kb", inputs={"names": names})


def embed_corpus(spec: Path, model: Path | None, corpus: Path, out: Path) -> None:
    """Embed every gold mention of all splits; `entry_id` is the mention's id.

    With `expand_abbreviations`, a mention that is an abbreviation is embedded in its long form. A training mention then has a
    second entry, ID|surface, in its short form.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights; none for a linker without an encoder.
        corpus: Folder with tables.DOCUMENTS and tables.MENTIONS.
        out: Folder to write.
    """
    inputs = {"documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    documents = tables.read(tables.DOCUMENTS, inputs["documents"])
    mentions = tables.read(tables.MENTIONS, inputs["mentions"]).to_pylist()
    entries = [(m["mention_id"], m["surface"], m) for m in mentions]
    if read_spec(spec, Linker).expand_abbreviations:
        entries = [(m["mention_id"], m["expanded"] or m["surface"], m) for m in mentions]
        entries += [(f"{m['mention_id']}|surface", m["surface"], m) for m in mentions if m["expanded"] and m["split"] == "train"]
    say(f"{len(mentions):,} mentions, {sum(bool(m['cuis']) for m in mentions):,} with a concept; {len(entries) - len(mentions):,} twice, for an abbreviation")
    place = {doc_id: i for i, doc_id in enumerate(documents.column("doc_id").to_pylist())}
    _embed(
        spec,
        model,
        out,
        [entry_id for entry_id, _, _ in entries],
        [text for _, text, _ in entries],
        [m["cuis"] for _, _, m in entries],
        documents.column("text").to_pylist(),
        [(place[m["doc_id"]], [(s["start"], s["end"]) for s in m["spans"]]) for _, _, m in entries],
        splits=[m["split"] for _, _, m in entries],
        stage="embed-corpus",
        inputs=inputs,
    )


def embed_generator(spec: Path, model: Path | None, synthetic: Path, out: Path) -> None:
    """Embed every located synthetic mention, but no gold mention beside it; `entry_id` is NOTE:START-END.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights; none for a linker without an encoder.
        synthetic: Folder with tables.LOCATED and tables.SYNTHETIC_MENTIONS.
        out: Folder to write.
    """
    inputs = {"located": synthetic / "located.parquet", "mentions": synthetic / "mentions.parquet"}
    notes = tables.read(tables.LOCATED, inputs["located"])
    mentions = [m for m in tables.read(tables.SYNTHETIC_MENTIONS, inputs["mentions"]).to_pylist() if m["match"] != tables.GOLD]
    say(f"{len(mentions):,} synthetic mentions in {len(notes):,} notes")
    place = {note_id: i for i, note_id in enumerate(notes.column("note_id").to_pylist())}
    _embed(
        spec,
        model,
        out,
        [f"{m['note_id']}:{m['start']}-{m['end']}" for m in mentions],
        [m["surface"] for m in mentions],
        [[m["cui"]] for m in mentions],
        notes.column("text").to_pylist(),
        [(place[m["note_id"]], ((m["start"], m["end"]),)) for m in mentions],
        notes=[m["note_id"] for m in mentions],
        stage="embed-generator",
        inputs=inputs,
    )


def _embed(
    spec: Path,
    model: Path | None,
    out: Path,
    ids: Sequence[str],
    texts: Sequence[str],
    cuis: Sequence[Sequence[str]],
    documents: Sequence[str],
    places: Sequence[tuple[int, Spans]],
    *,
    stage: str,
    inputs: dict[str, Path],
    splits: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
) -> None:
    """Embed entries and write them to `out`.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights.
        out: Folder to write.
        ids: Id of each entry.
        texts: String of each entry.
        cuis: Concepts of each entry.
        documents: Texts around the entries, for a context linker.
        places: Number of the document and character spans of each entry.
        stage: Name of the command, for the provenance.
        inputs: Files that were read, for the provenance.
        splits: Split of each entry, if it is a gold mention.
        notes: Note of each entry, if it is a synthetic mention.
    """
    linker: SearchingLinker = read_spec(spec, Linker)
    more: dict[str, Any] = {}
    if not linker.embeds:
        numbers: dict[str, int] = {}
        rows = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
        vectors = np.empty((len(numbers), 0), np.float32)
        if linker.weighs_names and stage == "embed-kb":
            vectors = linker.name_weights(list(numbers))[None]
        counts = {"entries": len(ids), "distinct_inputs": len(numbers)}
    else:
        if model is None:
            raise UserError("missing weights", str(spec), f"a {linker.kind} linker has an encoder", "give --model")
        encoder = linker.encoder(model)
        windows = encoder.contexts(documents, places) if linker.reads_context else encoder.strings(texts)
        encoded = encoder.encode(windows)
        rows, vectors = encoded.rows, encoded.vectors
        counts = {"entries": len(ids), "distinct_inputs": len(vectors), **{k: v for k, v in sorted(encoder.counts.items()) if v}}
        more = {"markers": encoder.markers if linker.reads_context else None, "versions": provenance.versions("torch", "transformers")}
    say(", ".join(f"{k} {v:,}" for k, v in counts.items()) + (f", markers: {' '.join(more['markers'] or ('none',))}" if linker.reads_context else ""))
    none = [None] * len(ids)
    entries = pa.table(
        {
            "entry_id": pa.array(ids, tables.STR),
            "text": pa.array(texts, tables.STR),
            "vector": pa.array(rows, tables.INT),
            "cuis": pa.array(cuis, tables.STRINGS),
            "split": pa.array(splits or none, tables.STR),
            "note_id": pa.array(notes or none, tables.STR),
        }
    )
    _save_vectors(out / "vectors.npy", vectors)
    more |= {"counts": counts, "vectors": provenance.sha256_file(out / "vectors.npy")}
    inputs = {"spec": spec, **({"model": model} if model else {}), **inputs}
    tables.write(tables.EMBEDDED, out / "entries.parquet", entries, provenance.stamp(f"normalization {stage}", inputs, **more))


def _save_vectors(path: Path, vectors: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as handle:
        np.save(handle, np.ascontiguousarray(vectors, np.float32))
    os.replace(temporary, path)
