"""The labelled notes of tests/data/context.txt, and how well their contexts are read.

python tests/labelled_context.py [--held-out] [--errors]
"""

import re
import sys
from collections import Counter
from pathlib import Path

from mentionforge import text as units

CLASSES = {"n": "negated", "f": "family", "h": "hypothetical"}


def notes():
    """(name, held out, text, [(start, end)], [classes]) of each."""
    parts = re.split(r"^=== (.*)\n", (Path(__file__).parent / "data/context.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for number, (name, marked) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        text, spans, labels, at = "", [], [], 0
        for m in re.finditer(r"\{([^{}|]+)(?:\|([nfh]+))?\}", marked):
            text += marked[at : m.start()]
            spans.append((len(text), len(text) + len(m[1])))
            labels.append({CLASSES[c] for c in m[2] or ""})
            text += m[1]
            at = m.end()
        yield name, number % 3 == 2, text + marked[at:], spans, labels


def measured(reader, held_out, told=None):
    """Precision, recall and number by class."""
    counts = {name: Counter() for name in CLASSES.values()}
    for name, held, text, spans, labels in notes():
        if held != held_out:
            continue
        [sentences] = units.sentences([text])
        for (a, b), expected, found in zip(spans, labels, reader.read(text, sentences, spans), strict=True):
            for kind, c in counts.items():
                c["tp" if kind in found and kind in expected else "fp" if kind in found else "fn" if kind in expected else "tn"] += 1
            if told and set(found) != expected:
                told(f"{name}: {text[max(a - 40, 0) : a]}{{{text[a:b]}}}{text[b : b + 40]!r}: {sorted(found)}, expected {sorted(expected)}")
    return {k: (c["tp"] / max(c["tp"] + c["fp"], 1), c["tp"] / max(c["tp"] + c["fn"], 1), c["tp"] + c["fn"]) for k, c in counts.items()}


if __name__ == "__main__":
    from mentionforge.annotate.context import Context

    for kind, (precision, recall, n) in measured(Context(), "--held-out" in sys.argv, print if "--errors" in sys.argv else None).items():
        print(f"{kind}: precision {precision:.3f}, recall {recall:.3f}, {n} mentions")
