"""Another system that links: scikit-learn's TF-IDF of character n-grams, and the nearest names of the knowledge base.

    python tests/peers/sklearn_tfidf.py --kb results/kb/KB --corpus results/corpora/CORPUS --out peer.csv [--top 20]

Knows nothing of mentionforge: it reads two Parquet tables and writes a row per mention of dev and test and rank, as docs/external.md has it.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer


def main() -> None:
    """Read the arguments, and link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--top", type=int, default=20)
    given = parser.parse_args()
    names = pd.read_parquet(given.kb / "names.parquet", columns=["name", "cui"]).drop_duplicates()
    mentions = pd.read_parquet(given.corpus / "mentions.parquet", columns=["doc_id", "mention_id", "split", "spans", "surface"])
    mentions = mentions[mentions["split"] != "train"]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    matrix = vectorizer.fit_transform(names["name"])
    surfaces = sorted(set(mentions["surface"]))
    cuis = names["cui"].to_numpy()
    ranked: dict[str, list[tuple[str, float]]] = {}
    for first in range(0, len(surfaces), 200):
        part = surfaces[first : first + 200]
        for surface, scores in zip(part, (vectorizer.transform(part) @ matrix.T).toarray(), strict=True):
            best: dict[str, float] = {}
            for i in np.argsort(-scores, kind="stable")[: 10 * given.top]:
                if scores[i] > 0:
                    best.setdefault(str(cuis[i]), float(scores[i]))
            ranked[surface] = list(best.items())[: given.top]
    with open(given.out, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["doc_id", "start", "end", "surface", "cui", "rank", "similarity"])
        for row in mentions.drop_duplicates(["doc_id", "mention_id"]).itertuples():
            place = [row.doc_id, row.spans[0]["start"], row.spans[-1]["end"], row.surface]
            found = ranked[row.surface]
            writer.writerows([*place, cui, rank, score] for rank, (cui, score) in enumerate(found, 1))
            if not found:
                writer.writerow([*place, "NIL", 1, ""])
    print(f"{len(mentions):,} mentions linked to {len(set(cuis)):,} concepts by {len(names):,} names")


if __name__ == "__main__":
    main()
