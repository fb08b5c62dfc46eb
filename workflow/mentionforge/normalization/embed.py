"""Embedding of names, gold mentions and synthetic mentions: once per linker and source, whatever the index or strategy.

A source becomes a folder with `entries.parquet` (tables.EMBEDDED) and `vectors.npy` (float32 [distinct inputs, dimensions],
C order, to be memory-mapped). Entries with the same word pieces share a row. A `mention` linker embeds the bare string, a
`context` linker the mention in a window of its text; a knowledge base's name has no context but itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mentionforge import provenance, tables
from mentionforge.config import EncoderLinker, read_spec
from mentionforge.encoders import Encoder, Spans
from mentionforge.progress import say


def embed_kb(spec: Path, model: Path, names: Path, out: Path) -> None:
    """Embed every distinct name string; a name of several concepts is one entry with all their CUIs.

    `entry_id` is `kb|` and the name's place among the sorted distinct names, eight digits.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights.
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


def embed_corpus(spec: Path, model: Path, corpus: Path, out: Path) -> None:
    """Embed every gold mention that maps to a CUI, of all splits; `entry_id` is the mention's id.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights.
        corpus: Folder with tables.DOCUMENTS and tables.MENTIONS.
        out: Folder to write.
    """
    inputs = {"documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    documents = tables.read(tables.DOCUMENTS, inputs["documents"])
    mentions = tables.read(tables.MENTIONS, inputs["mentions"]).to_pylist()
    mapped = [m for m in mentions if m["cuis"]]
    say(f"{len(mentions):,} mentions, {len(mapped):,} with a concept; the others are left out: there is nothing to link them to")
    place = {doc_id: i for i, doc_id in enumerate(documents.column("doc_id").to_pylist())}
    _embed(
        spec,
        model,
        out,
        [m["mention_id"] for m in mapped],
        [m["surface"] for m in mapped],
        [m["cuis"] for m in mapped],
        documents.column("text").to_pylist(),
        [(place[m["doc_id"]], [(s["start"], s["end"]) for s in m["spans"]]) for m in mapped],
        splits=[m["split"] for m in mapped],
        stage="embed-corpus",
        inputs=inputs,
    )


def embed_generator(spec: Path, model: Path, synthetic: Path, out: Path) -> None:
    """Embed every located synthetic mention; `entry_id` is NOTE:START-END.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights.
        synthetic: Folder with tables.LOCATED and tables.SYNTHETIC_MENTIONS.
        out: Folder to write.
    """
    inputs = {"located": synthetic / "located.parquet", "mentions": synthetic / "mentions.parquet"}
    notes = tables.read(tables.LOCATED, inputs["located"])
    mentions = tables.read(tables.SYNTHETIC_MENTIONS, inputs["mentions"]).to_pylist()
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
    model: Path,
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
    """Embed entries `ids`: their `texts`, or for a context linker their `places` (document, spans) in `documents`."""
    linker: EncoderLinker = read_spec(spec)
    encoder = Encoder(model, linker.pooling, linker.max_tokens, linker.batch_size, linker.dtype, unit=linker.metric == "cosine")
    windows = encoder.strings(texts) if linker.kind == "mention" else encoder.contexts(documents, places)
    encoded = encoder.encode(windows)
    counts = {"entries": len(ids), "distinct_inputs": len(encoded.vectors), **{k: v for k, v in sorted(encoder.counts.items()) if v}}
    say(", ".join(f"{k} {v:,}" for k, v in counts.items()) + (f", markers: {encoder.markers}" if linker.kind == "context" else ""))
    none = [None] * len(ids)
    entries = pa.table(
        {
            "entry_id": pa.array(ids, tables.STR),
            "text": pa.array(texts, tables.STR),
            "vector": pa.array(encoded.rows, tables.INT),
            "cuis": pa.array(cuis, tables.STRINGS),
            "split": pa.array(splits or none, tables.STR),
            "note_id": pa.array(notes or none, tables.STR),
        }
    )
    _save(out / "vectors.npy", encoded.vectors)
    more: dict[str, Any] = {
        "counts": counts,
        "markers": encoder.markers,
        "vectors": provenance.sha256_file(out / "vectors.npy"),
        "versions": provenance.versions("torch", "transformers"),
    }
    tables.write(
        tables.EMBEDDED, out / "entries.parquet", entries, provenance.stamp(f"normalization {stage}", {"spec": spec, "model": model, **inputs}, **more)
    )


def _save(path: Path, vectors: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as handle:
        np.save(handle, np.ascontiguousarray(vectors, np.float32))
    os.replace(temporary, path)
