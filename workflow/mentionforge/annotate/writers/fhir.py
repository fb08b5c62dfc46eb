"""The format `fhir`: FHIR R4, a Bundle per document and line (NDJSON), with a Condition or FamilyMemberHistory per mention.

In: annotated documents. Out: files of this format; docs/annotate.md states every element. Knows nothing of models.
Holds no text besides the mentions. Ids depend on document and offsets alone, so that a document annotated again updates its resources.
"""

# Contexts, by the words of the specification:
#     none                      Condition without verificationStatus: the text names it, and nobody has verified that.
#     negated                   Condition, `refuted`.
#     hypothetical              Condition, `unconfirmed`: "There is not sufficient diagnostic and/or clinical evidence to treat this as a confirmed condition."
#     family                    FamilyMemberHistory: "Significant health conditions for a person related to the patient".
#     family and another one    Nothing, counted: FamilyMemberHistory cannot say that a relative does not have a condition.

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mentionforge.annotate.vocabularies import own_code, vocabulary
from mentionforge.annotate.writers.contract import AnnotationFormat, Losses, Record, codes_of, renamed_when_complete

URN = "urn:mentionforge:fhir:"
"""Begins the names of the extensions, `mention` and `map`, and of the identifiers of documents."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, URN)
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_UNKNOWN = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_BY_DEVICE = {
    "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "DEVAST", "display": "device asserted"}],
}
_RELATIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "FAMMEMB", "display": "family member"}]}

_NO_PLACE = "mentions about the family that are negated or hypothetical, for which FHIR has no place: left out"
_REPLACED = "characters that a FHIR string does not allow: replaced"
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
"""Control characters, and white space besides blank, tab and line ends, which the pattern of a FHIR string leaves out."""


class FhirAnnotations(AnnotationFormat):
    """Mentions with concepts, codes, offsets, contexts and scores; no further candidates."""

    name = "fhir"
    output = "annotations.fhir.ndjson"
    reads_context = True

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write one Bundle per document, a line each."""
        losses: dict[str, int] = {}
        with renamed_when_complete(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as sink:
            sink.writelines(json.dumps(_bundle(r, losses), ensure_ascii=False) + "\n" for r in records)
        return losses


def _bundle(r: Record, losses: dict[str, int]) -> dict[str, Any]:
    """A document as a Bundle."""
    document = {"system": f"{URN}document", "value": _string(r["doc_id"], losses)}
    bundle = {"resourceType": "Bundle", "id": _id("document", r["doc_id"]), "identifier": document, "type": "collection"}
    resources = list(_resources(r, {"type": "DocumentReference", "identifier": document}, losses))
    return bundle | ({"entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]} if resources else {})


def _resources(r: Record, document: dict[str, Any], losses: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A resource per mention."""
    for m in r["mentions"]:
        [span] = m["spans"]
        contexts = set(m["context"])
        common = {"id": _id(r["doc_id"], span["start"], span["end"]), "meta": _BY_DEVICE}
        code = _concept(m, losses)
        details = list(_details(m, losses))
        place = {"url": f"{URN}mention", "extension": details}
        if contexts == {"family"}:
            details.append({"url": "document", "valueReference": document})
            condition = {"extension": [place], "code": code}
            history = {"status": "partial", "patient": _UNKNOWN, "relationship": _RELATIVE, "condition": [condition]}
            yield {"resourceType": "FamilyMemberHistory", **common, **history}
        elif "family" in contexts:
            losses[_NO_PLACE] = losses.get(_NO_PLACE, 0) + 1
        else:
            status = "unconfirmed" if "hypothetical" in contexts else "refuted" if "negated" in contexts else None
            verified = {"verificationStatus": {"coding": [{"system": _VERIFICATION, "code": status}]}} if status else {}
            evidence = [{"extension": [place], "detail": [document]}]
            yield {"resourceType": "Condition", **common, **verified, "code": code, "subject": _UNKNOWN, "evidence": evidence}


def _concept(m: Record, losses: dict[str, int]) -> dict[str, Any]:
    """A CodeableConcept: the concept's id, then its codes; for a mention without a concept its text alone."""
    text = {"text": _string(m["surface"], losses)}
    if m["nil"] or not m["concepts"]:
        return text
    first = m["concepts"][0]
    own = own_code(first["cui"])
    coding = _coding(*own) if own else {"system": f"{URN}concept-id", "code": _token(first["cui"])}
    codings = [coding | ({"display": _string(first["name"], losses)} if first["name"].strip() else {})]
    for code in codes_of(m):
        if (code["vocabulary"], code["code"]) != own:
            provenance = [{"url": "via", "valueString": code["via"]}, {"url": "preferred", "valueBoolean": code["preferred"]}]
            codings.append({"extension": [{"url": f"{URN}map", "extension": provenance}], **_coding(code["vocabulary"], code["code"])})
    return {"coding": codings, **text}


def _coding(name: str, code: str) -> dict[str, Any]:
    known = vocabulary(name)
    return {"system": known.system, "code": _token(f"{known.prefix}{code}")}


def _details(m: Record, losses: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The parts of the extension `mention`."""
    [span] = m["spans"]
    yield {"url": "start", "valueUnsignedInt": span["start"]}
    yield {"url": "end", "valueUnsignedInt": span["end"]}
    yield {"url": "score", "valueDecimal": m["score"]}
    if m["concepts"] and not m["nil"]:
        yield {"url": "conceptScore", "valueDecimal": m["concepts"][0]["score"]}
    for context in m["context"]:
        yield {"url": "context", "valueCode": context}
    if m["expanded"]:
        yield {"url": "expanded", "valueString": _string(m["expanded"], losses)}
    if m["ambiguous"]:
        yield {"url": "ambiguous", "valueBoolean": True}


def _id(*values: Any) -> str:
    return str(uuid.uuid5(_NAMESPACE, json.dumps(values)))


def _string(text: str, losses: dict[str, int]) -> str:
    """A text as FHIR allows strings; other characters become blanks, one for one."""
    allowed, n = _NOT_ALLOWED.subn(" ", text)
    if n:
        losses[_REPLACED] = losses.get(_REPLACED, 0) + n
    return allowed


def _token(code: str) -> str:
    """A code as FHIR allows them: no white space at the ends, single blanks inside."""
    return " ".join(code.split())
