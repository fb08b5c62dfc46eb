"""Read further ontologies, `others` of an entry: Orphanet's, or one of your own.

In: an `ontologies` entry. Out: the terms below the roots that are not obsolete, with the CUIs and codes of their own cross-references;
parents of all terms. Knows nothing of Mondo, the Disease Ontology and HPO, nor of how terms are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

from mentionforge.errors import UserError
from mentionforge.kb.sources.ontologies import OntologyKb, OtherOntology
from mentionforge.kb.sources.ontologies.published import Code, code_of, read_terms
from mentionforge.kb.sources.ontologies.shared import (
    CODED,
    Term,
    TermParents,
    exact_and_related_names,
    further_codes,
    lineages,
    own_cuis,
    published_parents,
    single_spaced,
)


def files(entry: OntologyKb) -> dict[str, str | None]:
    """Files that the ontologies are read from, by role."""
    return {f"others_{name}": settings.path for name, settings in entry.others.items()}


def terms(entry: OntologyKb, mondo_cuis: Mapping[str, set[str]], drops: Counter[str]) -> dict[str, list[Term]]:
    """Terms by name of the ontology."""
    return {name: _terms(name, settings, drops, entry.ids == "native") for name, settings in entry.others.items()}


def parents(entry: OntologyKb) -> dict[str, TermParents]:
    """Direct parents of all terms, by name of the ontology."""
    native = entry.ids == "native"
    return {
        name: TermParents({f"others_{name}": settings.path}, published_parents(settings.path, partial(_code, name, native)))
        for name, settings in entry.others.items()
    }


def _code(name: str, native: bool, key: str) -> Code:
    """Code of a term: its id without prefix, in the vocabulary that the entry names; with native ids, in that of the prefix, if there is one."""
    return code_of(key) if native and ":" in key else (name, key.partition(":")[2] or key)


def _terms(name: str, settings: OtherOntology, drops: Counter[str], native: bool) -> list[Term]:
    """The terms of one ontology below its roots that are not obsolete."""
    published = {t.id: t for t in read_terms(settings.path)}
    lines = lineages({key: t.parents for key, t in published.items()})
    if missing := sorted(set(settings.roots) - set(published)):
        raise UserError("unknown root", settings.path, f"{missing[0]} is no term of it", f"correct others.{name}.roots")
    terms = []
    for key, term in published.items():
        if term.obsolete:
            drops[f"{name}: obsolete term"] += 1
        elif settings.roots and lines[key].isdisjoint(settings.roots):
            drops[f"{name}: not below the roots"] += 1
        else:
            codes = further_codes(term, CODED) if native else {code for code in map(code_of, term.xrefs) if code[0] in CODED}
            terms.append(
                Term(
                    _code(name, native, key),
                    exact_and_related_names(term, name, drops),
                    {settings.semantic_type},
                    single_spaced(term.definition),
                    own_cuis(term),
                    name.lower(),
                    codes,
                )
            )
    return terms
