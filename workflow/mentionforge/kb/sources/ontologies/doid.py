"""Read the Human Disease Ontology: its terms as published or as a JSON list, and its TSV reports of cross-references and definitions.

In: an `ontologies` entry, and Mondo's exact matches. Out: terms, and their parents. A term has the CUIs of its exact match in Mondo, else
those of its own xrefs. Knows nothing of how terms are merged.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from mentionforge.concept_forms import CUI
from mentionforge.kb.sources.ontologies.contract import OntologySettings
from mentionforge.kb.sources.ontologies.published import Code, code_of, is_term_list, read_terms
from mentionforge.kb.sources.ontologies.shared import (
    Term,
    TermParents,
    lineages,
    open_text,
    published_parents,
    read_tsv,
    semantic_types_of,
    single_spaced,
    unique_names,
)

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies.mondo import MondoMatches

VERSION = 1
"""Version of the part ontology.doid; raise it if earlier results would be wrong (mentionforge.versions)."""

DOID_TYPES = {"DOID:14566": "T191", "DOID:150": "T048"}


class DoidSettings(OntologySettings):
    """Settings of the Human Disease Ontology."""

    doid: str | None = Field(None, description="Human Disease Ontology as published, or a JSON list of its terms; may be .gz or .zst.")
    doid_xrefs: str | None = Field(None, description="Human Disease Ontology cross-references (TSV).")
    doid_definitions: str | None = Field(None, description="Human Disease Ontology definitions (facets TSV, may be .gz).")


def files(settings: DoidSettings) -> dict[str, str | None]:
    """Files that the ontology is read from, by role."""
    return {"doid": settings.doid, "doid_xrefs": settings.doid_xrefs, "doid_definitions": settings.doid_definitions}


def terms(settings: DoidSettings, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
    """Terms of the Human Disease Ontology.

    A JSON list holds {id, name, synonyms?, relations?: {is_a}, xrefs?: [{namespace, id}]}; the reports are TSV.
    """
    data: dict[str, list[tuple[str, str]]] = {}
    parents: dict[str, Iterable[str]] = {}
    labels: dict[str, str] = {}
    definitions: dict[str, str] = {}
    xrefs: dict[str, set[Code]] = defaultdict(set)
    former: dict[str, set[Code]] = {}
    if settings.doid and not is_term_list(settings.doid):
        for published in read_terms(settings.doid):
            if published.obsolete:
                drops["DOID: obsolete term"] += 1
                continue
            data[published.id] = [(published.name, "label"), *((text, "synonym") for text, *_ in published.synonyms)]
            parents[published.id] = published.parents
            if published.definition:
                definitions[published.id] = published.definition
            xrefs[published.id] |= {code_of(x) for x in published.xrefs}
            former[published.id] = set(map(code_of, published.alternates)) if settings.ids == "native" else set()
    elif settings.doid:
        with open_text(settings.doid) as handle:
            for term in json.load(handle):
                data[term["id"]] = [(term["name"], "label"), *((s, "synonym") for s in term.get("synonyms", ()))]
                parents[term["id"]] = term.get("relations", {}).get("is_a", [])
                xrefs[term["id"]] |= {code_of(f"{x['namespace']}:{x['id']}") for x in term.get("xrefs", ())}
    if settings.doid_xrefs:
        for _, (key, label, xref) in read_tsv(settings.doid_xrefs, ("id", "label", "xref")):
            labels[key] = label
            xrefs[key].add(code_of(xref))
    if settings.doid_definitions:
        for _, (key, name, definition) in read_tsv(settings.doid_definitions, ("?id", "?name", "?definition")):
            labels.setdefault(key, name)
            definitions.setdefault(key, definition)
    through_mondo: dict[str, set[str]] = defaultdict(set)
    for mondo_id, code in mondo.pairs("DOID"):
        through_mondo[f"DOID:{code}"] |= mondo.cuis.get(mondo_id, set())
    lines = lineages(parents)
    diseases = []
    for key in {*data, *labels}:
        xref_cuis = {code for vocabulary, code in xrefs[key] if vocabulary == "UMLS" and CUI.fullmatch(code)}
        mondo_term_cuis = through_mondo.get(key, set())
        if mondo_term_cuis and xref_cuis - mondo_term_cuis:
            drops["DOID: term's own CUIs, other than Mondo's"] += 1
        current = [(labels[key], "label")] if key in labels else []
        diseases.append(
            Term(
                id=code_of(key),
                names=unique_names([*current, *data.get(key, ())]),
                types=semantic_types_of(lines.get(key, {key}), DOID_TYPES, "T047"),
                definition=single_spaced(definitions.get(key, "")),
                cuis=set(mondo_term_cuis or xref_cuis),
                via="mondo" if mondo_term_cuis else "doid",
                codes={code for code in xrefs[key] if code[0] in ("MSH", "OMIM")} | former.get(key, set()),
            )
        )
    return {"doid": diseases}


def parents(settings: DoidSettings) -> dict[str, TermParents]:
    """Direct parents, as published or from a JSON list; the reports have none."""
    if not settings.doid:
        return {}
    if not is_term_list(settings.doid):
        return {"DOID": TermParents({"doid": settings.doid}, published_parents(settings.doid))}
    with open_text(settings.doid) as handle:
        above = {code_of(term["id"]): [code_of(parent) for parent in term.get("relations", {}).get("is_a", [])] for term in json.load(handle)}
    return {"DOID": TermParents({"doid": settings.doid}, above)}
