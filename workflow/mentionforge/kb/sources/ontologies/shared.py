"""Shared by the readers of ontologies: the class `Term`, and helpers that build its names, semantic types and CUIs.

In: a term as published, or the lines of a TSV file. Out: parts of a `Term`, or a UserError with file and row.
Knows nothing of any one ontology, nor of how terms are merged.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from mentionforge.concept_forms import CUI
from mentionforge.errors import UserError
from mentionforge.kb.sources.ontologies.published import Code, PublishedTerm, code_of, open_binary, read_terms

CODED = ("MSH", "OMIM", "SNOMEDCT_US", "ICD10CM")
"""Vocabularies whose codes are taken from the cross-references of a term."""


class TermParents(NamedTuple):
    """Direct parents of the terms of an ontology, and the files that give them, by role."""

    files: Mapping[str, str]
    parents: Mapping[Code, Sequence[Code]]


@dataclass
class Term:
    """A term of an ontology, with the CUIs and codes that published maps give it."""

    id: Code
    names: list[tuple[str, str]]  # name and kind; the label first
    types: set[str]
    definition: str | None = None
    cuis: set[str] = field(default_factory=set)
    via: str = ""  # the map that gave the CUIs
    codes: set[Code] = field(default_factory=set)


def published_parents(path: str, code: Callable[[str], Code] = code_of) -> dict[Code, list[Code]]:
    """Direct parents (is_a) of the terms of a published ontology that are not obsolete; `code` makes a code of a term's id."""
    return {code(term.id): [code(parent) for parent in term.parents] for term in read_terms(path) if not term.obsolete}


def own_cuis(term: PublishedTerm) -> set[str]:
    """The CUIs among a term's own cross-references."""
    return {code for vocabulary, code in map(code_of, term.xrefs) if vocabulary == "UMLS" and CUI.fullmatch(code)}


def further_codes(term: PublishedTerm, vocabularies: Collection[str]) -> set[Code]:
    """With native ids: the codes in `vocabularies` among a term's own cross-references, and its former ids."""
    return {code for code in map(code_of, term.xrefs) if code[0] in vocabularies} | set(map(code_of, term.alternates))


def exact_and_related_names(term: PublishedTerm, source: str, drops: Counter[str]) -> list[tuple[str, str]]:
    """(name, kind) of the label and of the exact and related synonyms of a term; other synonyms are counted in `drops`."""
    names = [(term.name, "label")]
    for text, scope, kind in term.synonyms:
        if scope in ("narrow", "broad") or kind == "obsolete_synonym":
            drops[f"{source}: narrow, broad or obsolete synonym"] += 1
        else:
            names.append((text, scope))
    return unique_names(names)


def semantic_types_of(lineage: Iterable[str], type_of: Mapping[str, str], default: str) -> set[str]:
    """UMLS semantic types of a term: those that `type_of` gives to itself and its ancestors, else the default."""
    return {type_of[key] for key in lineage if key in type_of} or {default}


def unique_names(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names with normalized spaces, each once, in order; empty names are dropped."""
    first: dict[str, str] = {}
    for name, kind in names:
        if text := single_spaced(name):
            first.setdefault(text, kind)
    return list(first.items())


def single_spaced(text: str) -> str | None:
    """Collapse white space to single spaces; None if nothing is left."""
    return " ".join(text.split()) or None


def lineages(parents: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """For each term the set of itself and all its ancestors."""
    done: dict[str, set[str]] = {}

    def line(key: str) -> set[str]:
        if key not in done:
            done[key] = {key}  # before its parents, so that a cycle terminates
            done[key] = {key}.union(*(line(p) for p in parents.get(key, ())))
        return done[key]

    for key in parents:
        line(key)
    return done


@contextmanager
def open_text(path: str) -> Iterator[TextIO]:
    """Open a text file; errors while it is read or parsed become a UserError that names it."""
    from zstandard import ZstdError

    try:
        with io.TextIOWrapper(open_binary(path), encoding="utf-8", newline="\n") as handle:
            yield handle
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, ZstdError) as error:
        raise UserError(
            "unreadable ontology", path, f"{type(error).__name__}: {error}", "fetch the file again, or give the file that the config describes"
        ) from error


def read_tsv(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Rows of a TSV file as (row number from 1, cells of the named columns). Lines that start with # are comments; cells may be quoted, as in SPARQL output."""
    with open_text(path) as handle:
        indexes: list[int] | None = None
        for number, cells in enumerate(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if not cells or cells[0].startswith("#"):
                continue
            if indexes is None:
                missing = [c for c in columns if c not in cells]
                if missing:
                    raise UserError("other columns", f"{path}:{number}", f"there is no {', '.join(missing)}", "give the file that the config describes")
                indexes, width = [cells.index(c) for c in columns], len(cells)
            elif len(cells) != width:
                raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not {width}", "fetch the file again")
            else:
                yield number, tuple(cells[p][1:-1] if cells[p].startswith('"') and cells[p].endswith('"') else cells[p] for p in indexes)
