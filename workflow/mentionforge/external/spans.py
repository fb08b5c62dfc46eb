"""Mentions that another system found in a corpus: checked, and written as those of a recognizer.

They are reduced to whole words by `gold.flatten` with the corpus' policy on mentions in pieces, as gold mentions are before they are scored: of
predictions that share a word the longest is kept. What that changes is counted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mentionforge import provenance, tables, text
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.external.answers import Source, report_unknown, texts_of
from mentionforge.external.settings import TABLE
from mentionforge.gold import flatten
from mentionforge.progress import say
from mentionforge.recognition.kinds.external import ExternalRecognizer
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 1
"""Of the part external.spans: raise it where earlier results would be wrong (mentionforge.versions)."""


def read_spans(spec: Path, path: Path, corpus: Path, corpus_spec: Path, out: Path) -> dict[str, Any]:
    """Read the mentions of an external recognizer, check them, and write the table `recognized`.

    Args:
        spec: Spec of the recognizer.
        path: File or folder with its mentions for this corpus.
        corpus: Folder with documents.parquet.
        corpus_spec: Spec of the corpus, for its policies on texts and on mentions in pieces.
        out: Table to write.

    Returns:
        The counts, as in the file's provenance.

    Raises:
        UserError: See `Source.answers`; a prediction for an unknown document, or the same span with two scores.
    """
    settings, of_corpus = read_spec(spec, ExternalRecognizer), read_spec(corpus_spec, Corpus)
    if not isinstance(settings, ExternalRecognizer) or not isinstance(of_corpus, Corpus):
        raise UserError("wrong spec", str(spec), "it is not that of an external recognizer", "run `snakemake`, which writes it")
    texts = texts_of(corpus / "documents.parquet")
    source = Source(settings, path, of_corpus, texts, of_corpus.id_prefix)
    counts: dict[str, Any] = {"predictions": 0, "repeated": 0, "of_train": 0}
    found: dict[str, dict[tuple[Span, ...], tuple[float, str]]] = defaultdict(dict)
    for answer in source.answers(("doc_id",)):
        counts["predictions"] += 1
        if texts[answer.doc_id][1] == "train":
            counts["of_train"] += 1
            continue
        score = answer.scores[0] if answer.scores else 1.0
        before, where = found[answer.doc_id].setdefault(answer.pieces, (score, answer.where))
        if before != score:
            raise UserError("span given twice", answer.where, f"with another score in {where}", "give each span once")
        counts["repeated"] += where != answer.where
    counts["unknown"] = report_unknown(source, "document", source.unknown, path)
    rows: list[dict[str, Any]] = []
    for split in ("dev", "test"):
        documents = sorted(doc for doc, (_, own) in texts.items() if own == split)
        reduced: Counter[str] = Counter(mentions=0, kept=0)
        for doc_id in documents:
            own = found.get(doc_id, {})
            words = text.words(texts[doc_id][0])
            flat = flatten(words, list(own), of_corpus.discontinuous)
            reduced.update(flat.counts)
            scores = [score for score, _ in own.values()]
            for (first, last), i in zip(flat.spans, flat.sources, strict=True):
                rows.append({"doc_id": doc_id, "start": words[first][0], "end": words[last - 1][1], "split": split, "score": scores[i]})
        empty = sum(doc not in found for doc in documents)
        counts[split] = {"documents": len(documents), "without_predictions": empty, **reduced}
        if settings.reader != TABLE:
            counts[split]["not_in_file"] = sum(doc not in source.documents for doc in documents)
    inputs: dict[str, str | Path] = {"spec": spec, "corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "predictions": path}
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", "")
    external = {"system": name, "path": str(path), "reader": settings.reader, "cite": settings.cite, "unknown": settings.unknown}
    tables.write(tables.RECOGNIZED, out, rows, provenance.stamp("external spans", inputs, external=external, counts=counts))
    _say(counts)
    return counts


def _say(counts: dict[str, Any]) -> None:
    for split in ("dev", "test"):
        own = counts[split]
        changes = ", ".join(f"{own[k]:,} {k.replace('_', ' ')}" for k in ("widened", "discontinuous", "dropped_overlap", "dropped_discontinuous") if own.get(k))
        say(
            f"{split}: {own['kept']:,} of {own['mentions']:,} predicted mentions kept{f' ({changes})' if changes else ''}; "
            f"{own['without_predictions']:,} of {own['documents']:,} documents have none"
        )
        if own["documents"] and own["without_predictions"] == own["documents"]:
            say(f"WARNING: no prediction in any {split} document: the scores of {split} say nothing about the system")
    if counts["unknown"]["n"]:
        say(f"WARNING: {counts['unknown']['n']:,} predictions in documents that the corpus does not have: left out")
    if counts["of_train"]:
        say(f"{counts['of_train']:,} predictions in training documents: left out")
