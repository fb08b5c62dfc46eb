"""Predicted mentions written in the format of a corpus, so that linkers read them as they read gold mentions.

In: predictions of a recognizer and the corpus. Out: documents.parquet and mentions.parquet. Knows nothing of concepts: none of the
gold annotation of dev and test is copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mentionforge import abbreviations, tables
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec

VERSION = 1
"""Of the part recognition.mentions: raise it where earlier results would be wrong (mentionforge.versions)."""


def as_mentions(predictions: Path, corpus: Path, corpus_spec: Path, out: Path) -> None:
    """Write documents.parquet unchanged, and mentions.parquet with the gold mentions of train and the predicted mentions of dev and test.

    The id of a predicted mention is DOCUMENT:START-END, in characters. It has no concepts and the bucket `unmapped`, as it holds no gold annotation.

    Args:
        predictions: Table `recognized`.
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Resolved settings of the corpus, which say whether abbreviations are expanded.
        out: Folder to write to.

    Raises:
        UserError: A prediction lies outside the dev and test documents.
    """
    spell_out = read_spec(corpus_spec, Corpus).abbreviations != "none"
    documents = {row["doc_id"]: row for row in tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist()}
    rows: list[dict[str, Any]] = [row for row in tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist() if row["split"] == "train"]
    long_forms: dict[str, dict[str, str]] = {}
    predicted = tables.read(tables.RECOGNIZED, predictions).to_pylist()
    for number, row in enumerate(predicted, 1):
        doc = documents.get(row["doc_id"])
        if doc is None or doc["split"] == "train" or row["end"] > len(doc["text"]):
            raise UserError("unknown document", f"{predictions}:{number}", f"{row['doc_id']} has no such place in dev or test", "delete the file and rerun")
        surface = doc["text"][row["start"] : row["end"]]
        if spell_out and row["doc_id"] not in long_forms:
            long_forms[row["doc_id"]] = dict(abbreviations.long_forms(doc["text"]))
        rows.append(
            {
                "doc_id": row["doc_id"],
                "mention_id": f"{row['doc_id']}:{row['start']}-{row['end']}",
                "split": doc["split"],
                "spans": [{"start": row["start"], "end": row["end"]}],
                "surface": surface,
                "expanded": abbreviations.expand(surface, long_forms.get(row["doc_id"], {})),
                "entity_type": "predicted",
                "concept_ids": [],
                "cuis": [],
                "concept_cuis": [],
                "composite": False,
                "ood_bucket": "unmapped",
            }
        )
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".documents.{os.getpid()}.tmp"
    shutil.copyfile(corpus / "documents.parquet", temporary)
    os.replace(temporary, out / "documents.parquet")
    inputs: dict[str, str | Path] = {"predictions": predictions, "corpus_spec": corpus_spec}
    inputs |= {"documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet"}
    tables.write(tables.MENTIONS, out / "mentions.parquet", rows, stamp("recognition mentions", inputs))
    say(f"{len(predicted):,} predicted mentions to link, {len(rows) - len(predicted):,} training mentions")
