"""The format `brat`: a .txt and a .ann per document, in the folders of the inputs, and annotation.conf for BRAT.

In: annotated documents. Out: files of this format. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mentionforge.annotate.writers.contract import CONTEXTS, ENTITY_TYPE, AnnotationFormat, Losses, Record, codes_as_text, renamed_when_complete, with_paths
from mentionforge.corpora.spans import LINE_ENDS, without_line_ends

_BLANKS = {**LINE_ENDS, ord("\t"): " "}


class BratAnnotations(AnnotationFormat):
    """Mentions as T lines, concepts as N lines, flags as attributes, codes, scores and candidates as notes."""

    name = "brat"
    output = "brat"

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write the folder; nothing is lost."""
        with renamed_when_complete(out) as folder:
            folder.mkdir()
            attributes = "".join(f"{c.capitalize()}\tArg:{ENTITY_TYPE}\n" for c in (*CONTEXTS, "ambiguous", "expanded"))
            (folder / "annotation.conf").write_text(f"[entities]\n{ENTITY_TYPE}\n\n[relations]\n\n[events]\n\n[attributes]\n{attributes}", encoding="utf-8")
            for r, relative in with_paths(records, ".txt"):
                path = folder / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(r["text"], encoding="utf-8", newline="")
                path.with_suffix(".ann").write_text("".join(_ann(r["mentions"], r["text"])), encoding="utf-8", newline="")
        return {}


def _ann(mentions: Iterable[Record], text: str) -> Iterator[str]:
    """Lines of a .ann file: per mention a T line (in pieces if it crosses a line end), its concept as N line, flags as A lines, and scores as a note.

    Codes stand in the note: several N lines would say that a mention has several concepts.
    """
    references = flags = 0
    for i, m in enumerate(mentions, 1):
        [span] = m["spans"]
        spans = without_line_ends([(span["start"], span["end"])], text)  # BRAT allows no line end in a marked text
        pieces, surface = ";".join(f"{start} {end}" for start, end in spans), " ".join(text[start:end] for start, end in spans)
        yield f"T{i}\t{ENTITY_TYPE} {pieces}\t{surface}\n"
        for concept_id in m["concept_ids"]:
            references += 1
            yield f"N{references}\tReference T{i} {concept_id.replace('CUI:', 'UMLS:')}\t{(m['name'] or m['surface']).translate(_BLANKS)}\n"
        for flag in (*m["context"], *(["ambiguous"] if m["ambiguous"] else []), *(["expanded"] if m["expanded"] else [])):
            flags += 1
            yield f"A{flags}\t{flag.capitalize()} T{i}\n"
        note = [f"score {m['score']:.3f}", *([f"read as {m['expanded']}"] if m["expanded"] else []), *(["no concept"] if m["nil"] else [])]
        note += [f"codes {codes}"] if (codes := codes_as_text(m)) else []
        note += [f"{rank}. {c['cui']} {c['name']} ({', '.join(c['semantic_types'])}) {c['score']:.3f}" for rank, c in enumerate(m["concepts"], 1)]
        yield f"#{i}\tAnnotatorNotes T{i}\t{'; '.join(note).translate(_BLANKS)}\n"
