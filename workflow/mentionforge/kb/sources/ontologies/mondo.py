"""Read Mondo: its diseases that are not deprecated, its exact matches to other vocabularies, and its hierarchy.

In: an `ontologies` entry. Out: terms with CUIs and codes of their exact matches, or without exact matches to UMLS with the CUIs of their own xrefs.
Knows nothing of the other ontologies, nor of how terms are merged.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.kb.sources.ontologies.contract import OntologySettings
from mentionforge.kb.sources.ontologies.published import Code, code_of, exact_matches, is_term_list, read_terms
from mentionforge.kb.sources.ontologies.shared import (
    Term,
    TermParents,
    further_codes,
    lineages,
    open_text,
    own_cuis,
    published_parents,
    semantic_types_of,
    single_spaced,
    unique_names,
)

VERSION = 1
"""Version of the part ontology.mondo; raise it if earlier results would be wrong (mentionforge.versions)."""

MONDO_ROOTS = ("MONDO:0000001", "MONDO:0042489", "MONDO:0021178")
"""Disease, disease susceptibility and injury. Terms outside these branches, such as disease characteristics, are dropped."""

MATCHED = ("MSH", "OMIM", "DOID", "ORPHANET", "SNOMEDCT_US", "ICD10CM")
"""With native ids and no SSSOM files: vocabularies whose codes are taken from the cross-references of a term."""

MONDO_TYPES = {"MONDO:0045024": "T191", "MONDO:0005070": "T191", "MONDO:0002025": "T048", "MONDO:0021178": "T037"}


class MondoSettings(OntologySettings):
    """Settings of Mondo."""

    mondo: str | None = Field(None, description="Mondo as published (OBO, OBO Graphs JSON, OWL), or a JSON mapping of its terms; may be .gz or .zst.")
    mondo_sssom: dict[Literal["UMLS", "MSH", "OMIM", "OMIMPS", "DOID"], str] = Field(
        default_factory=dict, examples=[{"UMLS": "mondo_exactmatch_umls.sssom.tsv"}], description="Mondo's exact matches (SSSOM TSV) by target vocabulary."
    )


class MondoMatches:
    """Exact matches of Mondo to other vocabularies."""

    def __init__(self, settings: MondoSettings) -> None:
        """Read the matches to UMLS; the others are read when they are asked for."""
        self._paths: dict[str, str] = dict(settings.mondo_sssom.items())
        self.cuis: dict[str, set[str]] = defaultdict(set)
        """CUIs by Mondo id."""
        for mondo_id, cui in self.pairs("UMLS"):
            self.cuis[mondo_id].add(cui)

    def pairs(self, target: str) -> Iterator[tuple[str, str]]:
        """Mondo id and code without prefix, of each match to a target vocabulary."""
        path = self._paths.get(target)
        if path is None:
            return
        expected = "OMIM" if target == "OMIMPS" else target

        def refuse(number: int, predicate: str) -> None:
            raise UserError("unexpected mapping", f"{path}:{number}", f"{predicate}, not an exact match", "give Mondo's exact matches")

        for number, subject, (vocabulary, code) in exact_matches(path, refuse):
            if subject[0] != "MONDO" or vocabulary != expected:
                where = f"{path}:{number}"
                raise UserError("unexpected mapping", where, f"not an exact match of a MONDO and a {target} id", "give Mondo's exact matches")
            yield f"MONDO:{subject[1]}", code.removeprefix("PS") if target == "OMIMPS" else code


def files(settings: MondoSettings) -> dict[str, str | None]:
    """Files that the ontology is read from, by role."""
    return {"mondo": settings.mondo, **{f"sssom_{target}": path for target, path in settings.mondo_sssom.items()}}


def terms(settings: MondoSettings, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
    """Terms of the diseases that are not deprecated.

    A JSON mapping holds {id: {label, synonyms?, description?, deprecated, ancestors: {id: distance}}}.
    """
    if not settings.mondo:
        return {"mondo": []}
    codes: dict[str, set[Code]] = defaultdict(set)
    for target in ("MSH", "OMIM", "OMIMPS"):
        for mondo_id, code in mondo.pairs(target):
            codes[mondo_id].add(code_of(f"{target}:{code}"))
    xref_cuis: dict[str, set[str]] = defaultdict(set)
    if not is_term_list(settings.mondo):
        published = {t.id: t for t in read_terms(settings.mondo)}
        lines = lineages({key: t.parents for key, t in published.items()})
        rows = [(key, t.obsolete, lines[key], t.name, [text for text, *_ in t.synonyms], t.definition) for key, t in published.items()]
        for key, term in published.items():
            xref_cuis[key] = own_cuis(term)
            if settings.ids == "native":
                codes[key] |= further_codes(term, () if settings.mondo_sssom else MATCHED)
    else:
        if not mondo.cuis and settings.ids == "umls":
            raise UserError("missing map", "config: mondo_sssom.UMLS", "Mondo as a list of terms has no CUIs", "give its exact matches to UMLS")
        with open_text(settings.mondo) as handle:
            data = json.load(handle)
            rows = [(key, d["deprecated"], {key, *d["ancestors"]}, d["label"], d.get("synonyms", ()), d.get("description") or "") for key, d in data.items()]
    diseases = []
    for key, obsolete, line, label, synonyms, definition in rows:
        if not key.startswith("MONDO:"):
            continue
        if obsolete:
            drops["MONDO: deprecated term"] += 1
        elif line.isdisjoint(MONDO_ROOTS):
            drops["MONDO: not a disease"] += 1
        else:
            names = unique_names([(label, "label"), *((s, "synonym") for s in synonyms)])
            cuis = mondo.cuis.get(key, set()) if mondo.cuis else xref_cuis[key]
            diseases.append(Term(code_of(key), names, semantic_types_of(line, MONDO_TYPES, "T047"), single_spaced(definition), set(cuis), "mondo", codes[key]))
    return {"mondo": diseases}


def parents(settings: MondoSettings) -> dict[str, TermParents]:
    """Direct parents; in a JSON mapping, the ancestors at distance 1."""
    if not settings.mondo:
        return {}
    if not is_term_list(settings.mondo):
        return {"MONDO": TermParents({"mondo": settings.mondo}, published_parents(settings.mondo))}
    with open_text(settings.mondo) as handle:
        current = {key: term for key, term in json.load(handle).items() if not term["deprecated"]}
    above = {code_of(key): [code_of(parent) for parent, distance in term["ancestors"].items() if distance == 1] for key, term in current.items()}
    return {"MONDO": TermParents({"mondo": settings.mondo}, above)}
