"""Scores of those systems, counted from their files by plain loops: nothing of mentionforge is imported.

    python tests/peers/scores.py link CORPUS peer.csv       acc@1, acc@5, acc@10 and their n
    python tests/peers/scores.py find PUBTATOR... -- FOLDER   strict precision, recall and F1 of character spans in the published files

The first takes which concepts are right from mentions.parquet, since ids are mapped to CUIs by the corpus.
"""

import csv
import json
import sys
from pathlib import Path

import pandas as pd


def linked(corpus: Path, file: Path) -> dict[str, float]:
    """Accuracy among all test mentions that have a concept; a mention's ranking is found by document, start and end."""
    ranked: dict[tuple[str, str, str], dict[int, str]] = {}
    with open(file, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            ranked.setdefault((row["doc_id"], row["start"], row["end"]), {})[int(row["rank"])] = row["cui"]
    hits, n = {1: 0, 5: 0, 10: 0}, 0
    for row in pd.read_parquet(corpus / "mentions.parquet").itertuples():
        if row.split != "test" or not len(row.cuis):
            continue
        n += 1
        found = ranked[row.doc_id, str(row.spans[0]["start"]), str(row.spans[-1]["end"])]
        for place, rank in enumerate(sorted(found), 1):
            if found[rank] in set(row.cuis):
                for k in hits:
                    hits[k] += place <= k
                break
    return {"n": n, **{f"acc@{k}": h / n for k, h in hits.items()}}


def found(published: list[Path], folder: Path) -> dict[str, float]:
    """Strict scores of BRAT files against the annotation lines of PubTator files: spans of characters, each counted once."""
    gold = set()
    for path in published:
        for line in path.read_text(encoding="utf-8").splitlines():
            fields = line.split("\t")
            if len(fields) >= 6:
                gold.add((fields[0], int(fields[1]), int(fields[2])))
    own = {doc_id for doc_id, _, _ in gold}
    predicted = set()
    for path in sorted(folder.glob("*.ann")):
        for line in path.read_text(encoding="utf-8").splitlines():
            _, start, end = line.split("\t")[1].split(" ")
            if path.stem in own:
                predicted.add((path.stem, int(start), int(end)))
    right = len(gold & predicted)
    precision, recall = right / len(predicted), right / len(gold)
    return {"gold": len(gold), "predicted": len(predicted), "precision": precision, "recall": recall, "f1": 2 * right / (len(gold) + len(predicted))}


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "link":
        print(json.dumps(linked(Path(rest[0]), Path(rest[1]))))
    else:
        at = rest.index("--")
        print(json.dumps(found([Path(p) for p in rest[:at]], Path(rest[at + 1]))))
