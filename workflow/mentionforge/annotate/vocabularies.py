"""Vocabularies as other systems name them: URI in FHIR, `vocabulary_id` in OMOP, and which codes are under a licence.

In: the name of a vocabulary as in `tables.XREFS` (UMLS abbreviations: SNOMEDCT_US, MSH, HPO, …), or a concept id. Out: names, URIs, vocabulary and code.
Knows nothing of knowledge bases; imports no heavy library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mentionforge.kb.sources.ontologies.published import code_of

UMLS = "UMLS"

_CUI = re.compile(r"C\d{7}")

_LICENSED = re.compile(r"SNOMEDCT.*|SNOMED|SCT.*|SNM.*|MDR.*|RCD.*|CPT|HCPT|ICD10(AM|AE|AMAE)?|ICPC.*|DSM.*")
"""Vocabularies whose codes may be passed on under an agreement only: SNOMED CT, MedDRA, Read, CPT, ICD-10 of the WHO, ICPC, DSM."""

_UMLS_SOURCES = "http://www.nlm.nih.gov/research/umls/"
"""FHIR R4, "Code Systems": vocabularies of UMLS that the specification does not list are named by this and their abbreviation in lower case."""


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary as FHIR and OMOP name it.

    Attributes:
        system: `Coding.system` in FHIR.
        prefix: What its codes begin with in FHIR, besides the code of `tables.XREFS`.
        omop: `vocabulary_id` in OMOP; empty: OMOP does not have it, or not under a name that is known here.
    """

    system: str
    prefix: str = ""
    omop: str = ""


_VOCABULARIES = {
    UMLS: Vocabulary("http://www.nlm.nih.gov/research/umls"),
    "SNOMEDCT_US": Vocabulary("http://snomed.info/sct", omop="SNOMED"),
    "ICD10CM": Vocabulary("http://hl7.org/fhir/sid/icd-10-cm", omop="ICD10CM"),
    "ICD10": Vocabulary("http://hl7.org/fhir/sid/icd-10", omop="ICD10"),
    "ICD9CM": Vocabulary("http://hl7.org/fhir/sid/icd-9-cm", omop="ICD9CM"),
    "LNC": Vocabulary("http://loinc.org", omop="LOINC"),
    "RXNORM": Vocabulary("http://www.nlm.nih.gov/research/umls/rxnorm", omop="RxNorm"),
    "MSH": Vocabulary(f"{_UMLS_SOURCES}msh", omop="MeSH"),
    "OMIM": Vocabulary("http://www.omim.org"),
    "HPO": Vocabulary("http://human-phenotype-ontology.org", "HP:"),
    "ORPHANET": Vocabulary("http://www.orpha.net"),
    "MONDO": Vocabulary("http://purl.obolibrary.org/obo/mondo.owl", "MONDO:"),
    "DOID": Vocabulary("http://purl.obolibrary.org/obo/doid.owl", "DOID:"),
    "MDR": Vocabulary(f"{_UMLS_SOURCES}mdr", omop="MedDRA"),
}


def vocabulary(name: str) -> Vocabulary:
    """A vocabulary by its name; one that is not listed here is named as FHIR names other vocabularies of UMLS."""
    return _VOCABULARIES.get(name) or Vocabulary(f"{_UMLS_SOURCES}{re.sub(r'[^a-z0-9._-]', '_', name.lower())}")


def is_licensed(name: str) -> bool:
    """Whether codes of a vocabulary may be passed on under an agreement only."""
    return _LICENSED.fullmatch(name.upper()) is not None


def own_code(concept_id: str) -> tuple[str, str] | None:
    """Vocabulary and code that a concept id is itself: HP:0001250 is ("HPO", "0001250"), C0020179 ("UMLS", "C0020179"); None for other ids without prefix."""
    if _CUI.fullmatch(concept_id):
        return UMLS, concept_id
    prefix, colon, code = concept_id.partition(":")
    return code_of(concept_id) if prefix and colon and code else None
