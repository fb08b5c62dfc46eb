"""Speed, recall and false hits of mention location against the fuzzy pattern `(name){s<4}`: `make bench-locate`.

Both sides get the same notes, 1,300 characters each, and the same 30 names of each concept, in one run. Half of the notes
hold one mention, planted as it is written or with a slip of the pen; the other half are unrelated text.
"""

import argparse
import random
import re
import sys
import time
from pathlib import Path

import regex

from mentionforge.generation import markers
from mentionforge.generation.concepts import Concept, fold, words_of
from mentionforge.generation.confusion import is_in_use
from mentionforge.generation.locate import Matcher
from mentionforge.generation.settings import Locate

ROOT = Path(__file__).resolve().parents[2]
LENGTH, NAMES = 1300, 30
KINDS = ("as written", "insertion", "deletion", "substitution", "plural")
LETTERS = "bcdfghjklmnpqrtvwxyz"


def concepts_of_the_demo(count: int, draw: random.Random) -> list[Concept]:
    """Demo concepts with 30 names each: their own, then forms that vocabularies list (inverted, with a qualifier, unspecified)."""
    names: dict[str, list[str]] = {}
    for line in (ROOT / "resources/demo/umls/META/MRCONSO.RRF").read_text(encoding="utf-8").splitlines():
        row = line.split("|")
        if row[1] == "ENG" and row[16] == "N" and len(row[14]) > 5:
            names.setdefault(row[0], []).append(row[14])
    chosen = []
    for _cui, own in draw.sample(sorted(names.items()), len(names)):
        base = own[0]
        if len(base.split()) < 2 or not re.fullmatch(r"[A-Za-z ]{9,40}", base):
            continue
        first, last = base.split(maxsplit=1)
        forms = [*own, f"{last}, {first}", f"{base} (disorder)", f"{base} NOS", f"{base}, unspecified", f"[D]{base}"]
        for qualifier in (
            "acute",
            "chronic",
            "familial",
            "hereditary",
            "primary",
            "secondary",
            "juvenile",
            "severe",
            "recurrent",
            "congenital",
            "idiopathic",
            "mild",
        ):
            forms += [f"{qualifier} {base}", f"{base}, {qualifier}"]
        forms = list(dict.fromkeys(forms))[:NAMES]
        chosen.append(Concept(f"C{len(chosen)}", forms[0], tuple(forms[1:])))
        if len(chosen) == count:
            return chosen
    sys.exit(f"error: the demo has only {len(chosen)} concepts that fit; ask for fewer")


def planted(name: str, kind: str, draw: random.Random) -> str:
    """The name with one slip, never at an edge of a word."""
    at = draw.choice([i for i in range(1, len(name) - 1) if name[i - 1 : i + 2].isalpha()])
    letter = draw.choice(LETTERS)
    return {
        "as written": name,
        "insertion": name[:at] + letter + name[at:],
        "deletion": name[:at] + name[at + 1 :],
        "substitution": name[:at] + letter + name[at + 1 :],
        "plural": f"{name}s",
    }[kind]


def notes_for(concept: Concept, blob: str, count: int, draw: random.Random) -> list[tuple[str, tuple[int, int] | None, str]]:
    """Text, where the mention is, and its kind; no other text of a name is in any of them."""
    notes: list[tuple[str, tuple[int, int] | None, str]] = []
    words = [concept.preferred.split()[0].casefold(), *(name.casefold() for name in concept.names)]
    while len(notes) < count:
        begin = blob.index(" ", draw.randrange(len(blob) - 2 * LENGTH)) + 1
        text = blob[begin : begin + LENGTH]
        if any(w in text.casefold() for w in words):
            continue
        if len(notes) % 2:
            notes.append((text, None, "unrelated"))
            continue
        kind = KINDS[len(notes) // 2 % len(KINDS)]
        surface = planted(concept.preferred, kind, draw)
        at = text.index(" ", LENGTH // 3) + 1
        notes.append((f"{text[:at]}{surface} {text[at:]}"[:LENGTH], (at, at + len(surface)), kind))
    return notes


def report(side: str, seconds: float, notes: list[tuple[str, tuple[int, int] | None, str]], hits: list[list[tuple[int, int]]]) -> float:
    """Print a line and return notes/s."""
    recall = {}
    for kind in KINDS:
        found = [any(a < span[1] and span[0] < b for a, b in hit) for (_, span, k), hit in zip(notes, hits, strict=True) if span and k == kind]
        recall[kind] = sum(found) / max(1, len(found))
    unrelated = [bool(hit) for (_, span, _), hit in zip(notes, hits, strict=True) if span is None]
    line = ", ".join(f"{kind} {share:.3f}" for kind, share in recall.items())
    print(f"{side:<22}{len(notes) / seconds:>10,.0f} notes/s   recall: {line}   false hits on unrelated text: {sum(unrelated) / len(unrelated):.4f}")
    return len(notes) / seconds


def main() -> None:
    """Run both sides and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=10)
    parser.add_argument("--notes", type=int, default=400, help="per concept; the pattern gets one in 20")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    abstracts = [line.split("|", 2)[2] for f in sorted((ROOT / "resources/demo").glob("*/*.txt")) for line in f.read_text().splitlines() if "|a|" in line]
    blob = " ".join([*abstracts, *(f.read_text() for f in sorted((ROOT / "resources/demo/semeval").glob("*/*.text")))])
    tried = [(c, notes_for(c, blob, given.notes, draw)) for c in concepts_of_the_demo(given.concepts, draw)]
    vocabulary = {fold(w.casefold()) for c, _ in tried for n in c.names for w, _ in words_of(n)}
    is_in_use("")  # a process reads the list of words once
    tables = {}
    for side in ("mentionforge", "with tags", "regex (name){s<4}"):
        seconds, texts, hits = 0.0, [], []
        for concept, notes in tried:
            part = [n for i, n in enumerate(notes) if i % 200 < 10] if side.startswith("regex") else notes
            raws = [markers.wrap(text, [span]) if span else text for text, span, _ in part] if side == "with tags" else [text for text, *_ in part]
            begun = time.process_time()
            if side.startswith("regex"):
                patterns = [regex.compile(f"({regex.escape(name.lower())}){{s<4}}") for name in concept.names]
                for text in raws:
                    low = text.lower()
                    hits.append([m.span() for p in patterns if (m := p.search(low))])
            else:
                matcher = Matcher(concept, Locate(), vocabulary)
                for raw in raws:
                    text, tagged = markers.strip(raw)
                    hits.append([(m.start, m.end) for m in matcher.find(text, tagged)])
            seconds += time.process_time() - begun
            texts += part
        tables[side] = report(side, seconds, texts, hits)
    ratio = tables["mentionforge"] / tables["regex (name){s<4}"]
    print(f"mentionforge / regex: {ratio:.0f} times the notes/s; the time includes building the matcher and taking off the tags")


if __name__ == "__main__":
    main()
