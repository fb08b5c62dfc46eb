"""Parse the concept ids of a corpus into VOCABULARY:CODE, with the vocabulary names (SAB) of UMLS.

In: a column of ids as published. Out: one `MSH:D003110` per id; an empty string for a concept without id. Knows nothing of a knowledge base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NO_ID = {"", "-1", "-", "null", "none", "na", "n/a", "nan", "nil", "cui-less", "cui_less", "cuiless"}
"""Values that corpora use, in any letter case, for a mention without a concept."""

VOCABULARIES = {"MESH": "MSH", "UMLS": "CUI"}
"""Source (SAB) by prefix of an id; other prefixes are kept as they are."""

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
"""Pattern of the codes of each vocabulary, under each of its names. An id that does not match is kept, but counted and listed."""


def parse_ids(published: str, prefix: str) -> tuple[str, ...]:
    """The ids of a mention with vocabulary prefix, in published order.

    Args:
        published: One id, or several joined by `|`, `,` or `;` (composite), `+` (conjunctive), or spaces between codes. If only the first id has a
            prefix, it applies to all others that may be codes of that vocabulary.
        prefix: Vocabulary of ids without a prefix, such as MSH.

    Returns:
        Ids such as ("MSH:D003110", "OMIM:114500"); a concept without an id is an empty string.
    """
    if not _SEPARATOR.search(published):
        return (parse_id(published, prefix),)
    codes = split_ids(published)
    vocabularies = [vocabulary_of(code) for code in codes]
    first_vocabulary = vocabularies[0]
    if first_vocabulary is None or first_vocabulary == prefix or None not in vocabularies or any(v not in (None, first_vocabulary) for v in vocabularies):
        return tuple(parse_id(code, prefix) for code in codes)
    return tuple(parse_id(code, first_vocabulary if _belongs_to(code, first_vocabulary, prefix, codes[0]) else prefix) for code in codes)


_SEPARATOR = re.compile(r"[|+;,\s]")


def split_ids(published: str) -> list[str]:
    """The ids of a column as published, without normalization; [""] for an empty column."""
    ids = []
    for piece in re.split(r"[|+;,]", published):
        words = re.sub(r"\s*:\s*", ":", piece).split()
        if len(words) > 1 and all(_CODE.fullmatch(word) or word.lower() in NO_ID for word in words):
            ids += words  # spaces separate codes, but not the words of a vocabulary's name
        elif words:
            ids.append(piece.strip())
    return ids or [""]


_CODE = re.compile(r"(?:[A-Za-z][\w.-]*:)?[A-Za-z_]*\d[\w./-]*")


def vocabulary_of(published: str) -> str | None:
    """The vocabulary (SAB) of an id's prefix; None without a prefix."""
    vocabulary, colon, _ = published.rpartition(":")
    vocabulary = vocabulary.strip().upper()
    return VOCABULARIES.get(vocabulary, vocabulary) if colon else None


def _belongs_to(code: str, vocabulary: str, alternative: str, example: str) -> bool:
    """Whether a code without prefix belongs to a vocabulary, not to the alternative: by their patterns, else by the letters that `example` begins with."""
    if _has_form_of(code, vocabulary) or _has_form_of(code, alternative):
        return _has_form_of(code, vocabulary)
    letters = [re.match("[A-Za-z]*", value.rpartition(":")[2].strip()) for value in (code, example)]
    return letters[0] is not None and letters[1] is not None and letters[0].group() == letters[1].group()


def _has_form_of(code: str, vocabulary: str) -> bool:
    form = FORMS.get(vocabulary)
    return bool(form and form.fullmatch(code.strip().upper()))


def parse_id(published: str, prefix: str) -> str:
    """One id as VOCABULARY:CODE; empty for a concept without id."""
    code = published.strip().rpartition(":")[2].strip()
    vocabulary = vocabulary_of(published.strip())
    return "" if code.lower() in NO_ID else f"{prefix if vocabulary is None else vocabulary}:{code}"


def looks_like_id(concept_id: str) -> bool:
    """Whether the code of an id matches the pattern of its vocabulary in `FORMS`."""
    vocabulary, _, code = concept_id.partition(":")
    return _has_form_of(code, vocabulary)


def form_of(concept_id: str) -> str:
    """The form of an id: A for capitals, a for other letters, 9 for digits; a repeated class is written once with a `+`."""
    vocabulary, colon, code = concept_id.rpartition(":")
    shape = "".join("9" if c.isdecimal() else "A" if c.isupper() else "a" if c.isalpha() else c for c in code[:200])
    short = re.sub(r"([9Aa])\1+", r"\1+", shape)
    return f"{vocabulary}{colon}{short[:40]}{'…' if len(short) > 40 or len(code) > 200 else ''}"
