"""Read mentions that another system predicted in a corpus, and write them as those of a recognizer.

In: the spec and prediction files of an external recognizer, and a corpus. Out: `tables.RECOGNIZED`. Knows nothing of scores and of other recognizers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mentionforge import provenance, tables, text
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.external.answers import PredictionFiles, report_unknown, texts_of
from mentionforge.external.settings import TABLE
from mentionforge.gold import flatten
from mentionforge.progress import say
from mentionforge.recognition.kinds import Recognizer
from mentionforge.recognition.kinds.external import ExternalRecognizer
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 1
"""Version of the part external.spans; raise it if earlier results would be wrong (mentionforge.versions)."""


def read_spans(spec: Path, path: Path, corpus: Path, corpus_spec: Path, out: Path) -> dict[str, Any]:
    """Read the mentions of an external recognizer, check them, and write the table `recognized`.

    `gold.flatten` widens them to whole words under the corpus' policy for discontinuous mentions, as it does with gold mentions before scoring; of
    mentions that share a word the longest is kept. Changes are counted.

    Args:
        spec: Spec of the recognizer.
        path: File or folder with its mentions for this corpus.
        corpus: Folder with documents.parquet.
        corpus_spec: Spec of the corpus, for its policies on texts and on discontinuous mentions.
        out: Table to write.

    Returns:
        The counts, as in the provenance of the file.

    Raises:
        UserError: See `PredictionFiles.predictions`; a prediction for an unknown document, or the same span with two scores.
    """
    settings, of_corpus = read_spec(spec, Recognizer), read_spec(corpus_spec, Corpus)
    if not isinstance(settings, ExternalRecognizer):
        raise UserError("wrong spec", str(spec), "it is not that of an external recognizer", "run `snakemake`, which writes it")
    texts = texts_of(corpus / "documents.parquet")
    files = PredictionFiles(settings, path, of_corpus, texts, of_corpus.id_prefix)
    counts: dict[str, Any] = {"predictions": 0, "repeated": 0, "of_train": 0}
    spans_of: dict[str, dict[tuple[Span, ...], tuple[float, str]]] = defaultdict(dict)
    for prediction in files.predictions(("doc_id",)):
        counts["predictions"] += 1
        if texts[prediction.doc_id][1] == "train":
            counts["of_train"] += 1
            continue
        score = prediction.scores[0] if prediction.scores else 1.0
        before, where = spans_of[prediction.doc_id].setdefault(prediction.pieces, (score, prediction.where))
        if before != score:
            raise UserError("span given twice", prediction.where, f"with another score in {where}", "give each span once")
        counts["repeated"] += where != prediction.where
    counts["unknown"] = report_unknown(files, "document", files.unknown, path)
    rows: list[dict[str, Any]] = []
    for split in ("dev", "test"):
        documents = sorted(doc for doc, (_, document_split) in texts.items() if document_split == split)
        reduced: Counter[str] = Counter(mentions=0, kept=0)
        for doc_id in documents:
            document_spans = spans_of.get(doc_id, {})
            words = text.words(texts[doc_id][0])
            flat = flatten(words, list(document_spans), of_corpus.discontinuous)
            reduced.update(flat.counts)
            scores = [score for score, _ in document_spans.values()]
            for (first, last), i in zip(flat.spans, flat.sources, strict=True):
                rows.append({"doc_id": doc_id, "start": words[first][0], "end": words[last - 1][1], "split": split, "score": scores[i]})
        empty = sum(doc not in spans_of for doc in documents)
        counts[split] = {"documents": len(documents), "without_predictions": empty, **reduced}
        if settings.reader != TABLE:
            counts[split]["not_in_file"] = sum(doc not in files.documents for doc in documents)
    inputs: dict[str, str | Path] = {"spec": spec, "corpus_spec": corpus_spec, "documents": corpus / "documents.parquet", "predictions": path}
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", "")
    external = {"system": name, "path": str(path), "reader": settings.reader, "cite": settings.cite, "unknown": settings.unknown}
    tables.write(tables.RECOGNIZED, out, rows, provenance.stamp("external spans", inputs, external=external, counts=counts))
    _say(counts)
    return counts


def _say(counts: dict[str, Any]) -> None:
    for split in ("dev", "test"):
        split_counts = counts[split]
        changes = ", ".join(
            f"{split_counts[k]:,} {k.replace('_', ' ')}"
            for k in ("widened", "discontinuous", "dropped_overlap", "dropped_discontinuous")
            if split_counts.get(k)
        )
        say(
            f"{split}: {split_counts['kept']:,} of {split_counts['mentions']:,} predicted mentions kept{f' ({changes})' if changes else ''}; "
            f"{split_counts['without_predictions']:,} of {split_counts['documents']:,} documents have none"
        )
        if split_counts["documents"] and split_counts["without_predictions"] == split_counts["documents"]:
            say(f"WARNING: no prediction in any {split} document: the scores of {split} say nothing about the system")
    if counts["unknown"]["n"]:
        say(f"WARNING: {counts['unknown']['n']:,} predictions in documents that the corpus does not have: left out")
    if counts["of_train"]:
        say(f"{counts['of_train']:,} predictions in training documents: left out")
