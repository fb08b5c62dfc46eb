"""Writes a file of the layout and size of the authors' published notes, with texts of our own: `python tests/made_release.py --kb FOLDER --out FILE.csv`.

Its CUIs are those of a knowledge base and some outside it; its notes are made of fixed sentences around names. What the real file says is not imitated.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

from mentionforge.generation import concepts
from mentionforge.generation.shipped_prompts import SENTENCES

NAME = "{{ name }}"
"""Place of the name in a sentence."""
ROWS, CUIS = 129_000, 47_654
"""Notes and concepts of the published file, rounded and as counted by its authors."""
FILLERS = (
    "Vital signs were stable on arrival, and the physical examination was otherwise unremarkable.",
    "She lives with her husband, does not smoke, and takes no regular medication.",
    "Laboratory values were within normal limits apart from a mildly raised white cell count.",
    "The patient was counselled on diet, exercise and the importance of follow-up.",
    "He denied chest pain, shortness of breath, nausea, vomiting or recent travel.",
    "Plan: continue the present treatment, repeat imaging in six months, return if symptoms worsen.",
)


def write(kb: Path, out: Path, rows: int = ROWS, cuis: int = CUIS, seed: int = 5) -> dict[str, int]:
    """Write the file; return how many rows it has of each CUI.

    Args:
        kb: Folder of a knowledge base; at most `cuis` of its concepts with a definition are named.
        out: CSV file.
        rows: Rows in all.
        cuis: Distinct CUIs; those that the knowledge base does not fill lie outside it.
        seed: Seed.
    """
    rng = random.Random(seed)
    known = [concept for concept in concepts.load(kb).values() if concept.definition][:cuis]
    names = {concept.cui: concept.names for concept in known}
    outside = [f"C9{i:06d}" for i in range(cuis - len(known))]
    names |= {cui: (f"disorder {cui[2:]}",) for cui in outside}
    order = sorted(names)
    counts: dict[str, int] = {}
    with open(out, "w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(["cui", "matched_output"])
        for row in range(rows):
            cui = order[row % len(order)]
            name = rng.choice(names[cui])
            close = "</1CUI>" if row % 3 else "<1CUI>"  # the authors' code writes the opening tag on both sides
            sentence = rng.choice(SENTENCES).replace(NAME, f"<1CUI> {name} {close}")
            note = [*rng.sample(FILLERS, 3), sentence, rng.choice(SENTENCES).replace(NAME, rng.choice(names[cui]))]
            rng.shuffle(note)
            writer.writerow([cui, ("\n" if row % 5 == 0 else " ").join(note)])
            counts[cui] = counts.get(cui, 0) + 1
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kb", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    made = write(given.kb, given.out, given.rows)
    print(f"{sum(made.values()):,} notes of {len(made):,} CUIs, {given.out.stat().st_size / 1e6:.0f} MB")
