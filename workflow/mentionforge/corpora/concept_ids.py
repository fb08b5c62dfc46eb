"""Concept ids as corpora write them become ids with the vocabulary as the knowledge base calls it.

In: the text of a column of ids. Out: `MSH:D003110`, one for each id; empty for a concept without one. Never looks at a knowledge base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NO_ID = {"", "-1", "-", "null", "none", "na", "n/a", "nan", "nil", "cui-less", "cui_less", "cuiless"}
"""What corpora write, in any case, for a mention without a concept."""

VOCABULARIES = {"MESH": "MSH", "UMLS": "CUI"}
"""Prefixes of ids as corpora write them, and the source (SAB) they stand for; other prefixes are kept."""

_FORMS = {
    "CUI": r"C\d{7}",
    "MSH": r"[CD]\d{6}(\d{3})?",
    "OMIM MIM": r"(PS)?\d{6}|MTHU\d{6}",
    "SNOMEDCT_US SNOMEDCT SNOMED SCTID": r"\d{6,18}",
    "ORPHANET ORPHA ORDO": r"(ORPHA_?)?\d{1,6}",
    "HPO HP MONDO EFO GO": r"\d{7}",
    "DOID": r"\d{1,7}",
    "MEDDRA MDR": r"\d{8}",
    "NCI NCIT": r"C\d{3,6}",
    "ICD9CM ICD9": r"[EV]?\d{2,3}(\.\d{1,2})?",
    "ICD10CM ICD10 ICD10PCS": r"[A-Z]\d[0-9A-Z](\.?[0-9A-Z]{1,4})?",
    "ICDO ICDO3 ICD-O": r"\d{4}/\d{1,2}(/H)?",
    "CHEBI": r"\d{1,6}",
}

FORMS: Mapping[str, re.Pattern[str]] = {name: re.compile(form) for names, form in _FORMS.items() for name in names.split(" ")}
"""How the codes of each vocabulary look, under each of its names; what looks otherwise is counted and listed, and kept as it is."""


def parse_ids(published: str, prefix: str) -> tuple[str, ...]:
    """The ids of a mention with vocabulary prefix, in published order.

    Args:
        published: One id, or several joined by `|` or `,` or `;` (composite), `+` (conjunctive), or blanks between codes. A vocabulary that only
            the first id names holds for all of them that may be its codes.
        prefix: Vocabulary of ids without a prefix, as MSH.

    Returns:
        As ("MSH:D003110", "OMIM:114500"); a concept without an id is an empty string.
    """
    if not _SEPARATOR.search(published):
        return (parse_id(published, prefix),)
    parts = split_ids(published)
    named = [vocabulary_of(part) for part in parts]
    first = named[0]
    if first is None or first == prefix or None not in named or any(v not in (None, first) for v in named):
        return tuple(parse_id(part, prefix) for part in parts)
    return tuple(parse_id(part, first if _may_be(part, first, prefix, parts[0]) else prefix) for part in parts)


_SEPARATOR = re.compile(r"[|+;,\s]")


def split_ids(published: str) -> list[str]:
    """The ids of a column as they stand there; at least one, which is empty if the column is."""
    found = []
    for part in re.split(r"[|+;,]", published):
        words = re.sub(r"\s*:\s*", ":", part).split()
        if len(words) > 1 and all(_CODE.fullmatch(word) or word.lower() in NO_ID for word in words):
            found += words  # blanks part codes, but not the words of a vocabulary's name
        elif words:
            found.append(part.strip())
    return found or [""]


_CODE = re.compile(r"(?:[A-Za-z][\w.-]*:)?[A-Za-z_]*\d[\w./-]*")


def vocabulary_of(published: str) -> str | None:
    """The vocabulary that an id names, as the knowledge base calls it; None if it names none."""
    vocabulary, colon, _ = published.rpartition(":")
    vocabulary = vocabulary.strip().upper()
    return VOCABULARIES.get(vocabulary, vocabulary) if colon else None


def _may_be(code: str, vocabulary: str, otherwise: str, known: str) -> bool:
    """Whether a code without prefix is one of a vocabulary rather than of another: by their forms, or because it begins as a known one does."""
    if _fits(code, vocabulary) or _fits(code, otherwise):
        return _fits(code, vocabulary)
    letters = [re.match("[A-Za-z]*", value.rpartition(":")[2].strip()) for value in (code, known)]
    return letters[0] is not None and letters[1] is not None and letters[0].group() == letters[1].group()


def _fits(code: str, vocabulary: str) -> bool:
    form = FORMS.get(vocabulary)
    return bool(form and form.fullmatch(code.strip().upper()))


def parse_id(published: str, prefix: str) -> str:
    """One id with its vocabulary as the knowledge base calls it; empty if it stands for none."""
    code = published.strip().rpartition(":")[2].strip()
    known = vocabulary_of(published.strip())
    return "" if code.lower() in NO_ID else f"{prefix if known is None else known}:{code}"


def looks_like_id(concept_id: str) -> bool:
    """Whether an id with its vocabulary has the form of that vocabulary's codes, as far as `FORMS` knows it."""
    vocabulary, _, code = concept_id.partition(":")
    return _fits(code, vocabulary)


def form_of(concept_id: str) -> str:
    """The form of an id: A for capitals, a for other letters, 9 for digits; those that repeat are written once with a `+`."""
    vocabulary, colon, code = concept_id.rpartition(":")
    shape = "".join("9" if c.isdecimal() else "A" if c.isupper() else "a" if c.isalpha() else c for c in code[:200])
    short = re.sub(r"([9Aa])\1+", r"\1+", shape)
    return f"{vocabulary}{colon}{short[:40]}{'…' if len(short) > 40 or len(code) > 200 else ''}"
