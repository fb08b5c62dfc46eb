"""Another system that finds mentions: spaCy's PhraseMatcher with the names of the knowledge base, written as BRAT.

    python tests/peers/spacy_matcher.py --kb results/kb/KB --corpus results/corpora/CORPUS --out FOLDER

Knows nothing of mentionforge: it reads two Parquet tables, and writes NAME.txt and NAME.ann for each document of dev and test.
"""

import argparse
from pathlib import Path

import pandas as pd
import spacy
from spacy.matcher import PhraseMatcher
from spacy.util import filter_spans


def main() -> None:
    """Read the arguments, and look for names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    nlp = spacy.blank("en")
    nlp.max_length = 10_000_000
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    names = pd.read_parquet(given.kb / "names.parquet", columns=["name"])["name"].unique()
    matcher.add("Disease", list(nlp.tokenizer.pipe(name for name in names if len(name) > 3)))
    documents = pd.read_parquet(given.corpus / "documents.parquet", columns=["doc_id", "split", "text"])
    given.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for row in documents[documents["split"] != "train"].itertuples():
        doc = nlp.make_doc(row.text)
        # BRAT marks nothing over a line end in one piece.
        spans = [s for s in filter_spans(matcher(doc, as_spans=True)) if "\n" not in s.text]
        count += len(spans)
        lines = [f"T{i}\tDisease {s.start_char} {s.end_char}\t{s.text}\n" for i, s in enumerate(spans, 1)]
        (given.out / f"{row.doc_id}.txt").write_bytes(row.text.encode("utf-8"))
        (given.out / f"{row.doc_id}.ann").write_text("".join(lines), encoding="utf-8")
    print(f"{count:,} mentions found by {len(names):,} names")


if __name__ == "__main__":
    main()
