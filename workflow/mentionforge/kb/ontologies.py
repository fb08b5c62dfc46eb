"""Open ontologies become concepts, names, definitions and cross-references, merged by UMLS CUI.

Each ontology is read into terms; a term stands for the CUIs that a published map gives it. Rules:
    CUIs        Mondo by its exact matches (SSSOM, one-to-one). DOID through Mondo's exact match where there is one, else by
                its own UMLS cross-references; HPO by its own. So a disease that Mondo and DOID file under different CUIs is one
                concept, not two that bear the same names. A term without a CUI is dropped and counted.
    codes       A MeSH or OMIM code goes to the concepts that the first of the maps mondo, doid, mesh-name gives; within a map
                all its concepts are kept. MONDO, DOID and HPO ids are codes as well.
    mesh-name   A disease of MeSH (trees C and F03, and supplementary records of those headings) that no map knows goes to the
                concepts that bear its heading, else to those that bear one of its synonyms (`text.normalize_surface`).
    names       Labels and synonyms of the terms (HPO: exact and related ones only), and the MeSH names of mapped MeSH ids.
    preferred   The label from Mondo, else DOID, else HPO; of several terms, of the one with the lowest id.
    definitions From Mondo, then DOID, then HPO; the first is the preferred one.
    types       No ontology gives UMLS semantic types. Mondo and DOID: T191 below neoplasm, T048 below psychiatric disorder,
                T037 below injury, else T047. HPO: T191 below Neoplasm, T184 below Constitutional symptom, else T033. HPO's
                type counts only where no disease ontology has the concept.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from mentionforge import tables
from mentionforge.config import OntologyKb
from mentionforge.errors import UserError
from mentionforge.kb.extract import Extracted
from mentionforge.text import normalize_surface

MONDO_ROOTS = ("MONDO:0000001", "MONDO:0042489", "MONDO:0021178")
"""Disease, disease susceptibility, injury: what is left out are the characteristics of diseases."""

MONDO_TYPES = {"MONDO:0045024": "T191", "MONDO:0005070": "T191", "MONDO:0002025": "T048", "MONDO:0021178": "T037"}
DOID_TYPES = {"DOID:14566": "T191", "DOID:150": "T048"}
HPO_TYPES = {"HP:0002664": "T191", "HP:0025142": "T184"}
PHENOTYPES = "HP:0000118"
"""Root of HPO's phenotypic abnormalities; its other branches are modifiers, onset, inheritance."""

MESH_DISEASES = re.compile(r"C\d|F03")
SSSOM_PREFIX = {"MSH": "mesh", "UMLS": "UMLS", "OMIM": "OMIM", "OMIMPS": "OMIMPS", "DOID": "DOID"}
CUI = re.compile(r"C\d{7}")
OBO_SYNONYM = re.compile(r'"((?:[^"\\]|\\.)*)" (EXACT|RELATED|NARROW|BROAD)\b ?([\w:]*)')
OBO_DEFINITION = re.compile(r'"((?:[^"\\]|\\.)*)"')

Code = tuple[str, str]
"""Vocabulary and code without prefix: ("MSH", "D003920")."""


@dataclass
class Term:
    """A term of an ontology and what its published maps say of it."""

    id: Code
    names: list[tuple[str, str]]  # name and kind; the label first
    types: set[str]
    definition: str | None = None
    cuis: set[str] = field(default_factory=set)
    via: str = ""  # the map that gave the CUIs
    codes: set[Code] = field(default_factory=set)


class Mesh(NamedTuple):
    """A MeSH record; names are taken apart only of the few records that are needed."""

    code: str
    heading: str
    synonyms: str  # joined by |
    disease: bool

    def names(self) -> list[tuple[str, str]]:
        """Heading first, then synonyms; kinds are MeSH's term types in UMLS."""
        kinds = ("MH", "ET") if self.code.startswith("D") else ("NM", "SY")
        return _unique([(self.heading, kinds[0]), *((s, kinds[1]) for s in self.synonyms.split("|"))])


def read(entry: OntologyKb) -> Extracted:
    """Read and merge the ontologies of an entry.

    Raises:
        UserError: A file is missing or malformed (with its row), or ontologies come without the maps that give them CUIs.
    """
    drops: Counter[str] = Counter()
    mondo_cuis = dict(_sssom(entry, "UMLS"))
    if entry.mondo and not mondo_cuis:
        raise UserError("missing map", "config: mondo_sssom.UMLS", "Mondo itself has no CUIs", "give its exact matches to UMLS")
    mondo = _mondo(entry, mondo_cuis, drops)
    doid = _doid(entry, mondo_cuis, drops)
    hpo = _hpo(entry, drops)
    kb = _Merger()
    for terms in (mondo, doid, hpo):
        for term in sorted(terms, key=lambda t: t.id):
            kb.add(term, drops)
    mesh = _mesh(entry.mesh_names)
    kb.add_mesh(mesh, entry.mesh_name_match, drops)
    concepts, names, definitions, xrefs = kb.rows()
    inputs = {"mondo": entry.mondo, **{f"sssom_{k}": v for k, v in entry.mondo_sssom.items()}, "doid": entry.doid, "doid_xrefs": entry.doid_xrefs}
    inputs |= {"doid_definitions": entry.doid_definitions, "hpo": entry.hpo, **{f"mesh_names_{i}": path for i, path in enumerate(entry.mesh_names)}}
    funnel = {
        "terms": {"mondo": len(mondo), "doid": len(doid), "hpo": len(hpo), "mesh": len(mesh)},
        "drops": dict(sorted(drops.items())),
    }
    return Extracted(
        tables.build(tables.CONCEPTS, concepts),
        tables.build(tables.NAMES, names),
        tables.build(tables.DEFINITIONS, definitions),
        tables.build(tables.XREFS, xrefs),
        tables.build(tables.RETIRED, []),
        {role: Path(path) for role, path in inputs.items() if path},
        funnel,
    )


class _Merger:
    """Concepts by CUI; terms are added in order of preference, and what came first stays."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str, str, str], None] = {}
        self.preferred: dict[str, str] = {}
        self.definitions: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)  # source and text, in order of preference
        self.types: dict[str, set[str]] = defaultdict(set)
        self.typed_by: dict[str, str] = {}
        self.codes: dict[Code, tuple[str, set[str]]] = {}

    def add(self, term: Term, drops: Counter[str]) -> None:
        source = term.id[0]
        if not term.cuis:
            drops[f"{source}: term without a CUI"] += 1
            return
        for cui in term.cuis:
            self._name(cui, source, term.names)
            self.preferred.setdefault(cui, term.names[0][0])
            if term.definition:
                self.definitions[cui][source, term.definition] = None
            if self.typed_by.setdefault(cui, source) == source or source != "HPO":
                self.types[cui] |= term.types
        self._code(term.id, term.cuis, term.via, drops)
        for code in sorted(term.codes):
            self._code(code, term.cuis, source.lower(), drops)

    def add_mesh(self, mesh: Mapping[str, Mesh], match: bool, drops: Counter[str]) -> None:
        """Add the names of mapped MeSH ids, and map diseases without a map by name."""
        bearers: dict[str, set[str]] = defaultdict(set)
        for cui, name, _, _ in self.names:
            bearers[normalize_surface(name)].add(cui)
        nobody: set[str] = set()
        for code, record in sorted(mesh.items()):
            if ("MSH", code) not in self.codes:
                if not (match and record.disease):
                    continue
                heading, *synonyms = (bearers.get(normalize_surface(name), nobody) for name, _ in record.names())
                cuis = heading or set().union(*synonyms)
                if not cuis:
                    drops["MSH: disease without a map or a known name"] += 1
                    continue
                self._code(("MSH", code), cuis, "mesh-name", drops)
            for cui in self.codes["MSH", code][1]:
                self._name(cui, "MSH", record.names())

    def _name(self, cui: str, source: str, names: Iterable[tuple[str, str]]) -> None:
        for name, kind in names:
            self.names[cui, name, source, kind] = None

    def _code(self, code: Code, cuis: set[str], via: str, drops: Counter[str]) -> None:
        first, known = self.codes.setdefault(code, (via, set()))
        if first == via:
            known |= cuis
        elif not cuis <= known:
            drops[f"{code[0]}: code's other concepts by {via}, after {first}"] += 1

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of concepts, names, definitions and xrefs."""
        told = {cui: list(self.definitions.get(cui, ())) for cui in self.preferred}
        concepts = [
            {"cui": cui, "preferred_name": name, "definition": told[cui][0][1] if told[cui] else None, "semantic_types": sorted(self.types[cui])}
            for cui, name in self.preferred.items()
        ]
        definitions = [
            {"cui": cui, "rank": rank, "source": source, "definition": text}
            for cui, texts in told.items()
            for rank, (source, text) in enumerate(texts, start=1)
        ]
        names = [
            {"cui": cui, "name": name, "source": source, "term_type": kind, "preferred": name == self.preferred[cui]} for cui, name, source, kind in self.names
        ]
        xrefs = [{"source": source, "code": code, "cui": cui, "via": via} for (source, code), (via, cuis) in self.codes.items() for cui in cuis]
        return concepts, names, definitions, xrefs


# -------------------------------------------------------------------------------------------------------------- readers


def _mondo(entry: OntologyKb, cuis: Mapping[str, str], drops: Counter[str]) -> list[Term]:
    """Mondo's live diseases: {id: {label, synonyms?, description?, deprecated, ancestors: {id: distance}}}."""
    if not entry.mondo:
        return []
    codes: dict[str, set[Code]] = defaultdict(set)
    for target in ("MSH", "OMIM", "OMIMPS"):
        for mondo, code in _sssom(entry, target):
            # A phenotypic series is written PS123456 among OMIM's numbers.
            codes[mondo].add(("OMIM", f"PS{code}") if target == "OMIMPS" else (target, code))
    terms = []
    with _reading(entry.mondo) as handle:
        for key, data in json.load(handle).items():
            if not key.startswith("MONDO:"):
                continue
            if data["deprecated"]:
                drops["MONDO: deprecated term"] += 1
                continue
            line = {key, *data["ancestors"]}
            if line.isdisjoint(MONDO_ROOTS):
                drops["MONDO: not a disease"] += 1
                continue
            terms.append(
                Term(
                    id=_code_of(key),
                    names=_unique([(data["label"], "label"), *((s, "synonym") for s in data.get("synonyms", ()))]),
                    types=_types(line, MONDO_TYPES, "T047"),
                    definition=_clean(data.get("description") or ""),
                    cuis={cuis[key]} if key in cuis else set(),
                    via="mondo",
                    codes=codes[key],
                )
            )
    return terms


def _doid(entry: OntologyKb, mondo_cuis: Mapping[str, str], drops: Counter[str]) -> list[Term]:
    """DOID's terms: [{id, name, synonyms?, relations?: {is_a}, xrefs?: [{namespace, id}]}], TSV of xrefs, TSV of definitions."""
    data: dict[str, list[tuple[str, str]]] = {}
    parents: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    xrefs: dict[str, set[Code]] = defaultdict(set)
    if entry.doid:
        with _reading(entry.doid) as handle:
            for term in json.load(handle):
                data[term["id"]] = [(term["name"], "label"), *((s, "synonym") for s in term.get("synonyms", ()))]
                parents[term["id"]] = term.get("relations", {}).get("is_a", [])
                xrefs[term["id"]] |= {(x["namespace"], x["id"]) for x in term.get("xrefs", ())}
    if entry.doid_xrefs:
        for _, (key, label, xref) in _tsv(entry.doid_xrefs, ("id", "label", "xref")):
            labels[key] = label
            vocabulary, _, code = xref.partition(":")
            xrefs[key].add((vocabulary, code))
    definitions: dict[str, str] = {}
    if entry.doid_definitions:
        for _, (key, name, definition) in _tsv(entry.doid_definitions, ("?id", "?name", "?definition")):
            labels.setdefault(key, name)
            definitions.setdefault(key, definition)
    through_mondo = {f"DOID:{code}": mondo_cuis[mondo] for mondo, code in _sssom(entry, "DOID") if mondo in mondo_cuis}
    vocabularies = {"MESH": "MSH", "OMIM": "OMIM", "MIM": "OMIM"}
    lines = _lines(parents)
    terms = []
    for key in {*data, *labels}:
        own = {code for vocabulary, code in xrefs[key] if vocabulary == "UMLS_CUI" and CUI.fullmatch(code)}
        if key in through_mondo and own - {through_mondo[key]}:
            drops["DOID: term's own CUIs, other than Mondo's"] += 1
        current = [(labels[key], "label")] if key in labels else []
        terms.append(
            Term(
                id=_code_of(key),
                names=_unique([*current, *data.get(key, ())]),
                types=_types(lines.get(key, {key}), DOID_TYPES, "T047"),
                definition=_clean(definitions.get(key, "")),
                cuis={through_mondo[key]} if key in through_mondo else own,
                via="mondo" if key in through_mondo else "doid",
                codes={(vocabularies[v], code) for v, code in xrefs[key] if v in vocabularies},
            )
        )
    return terms


def _hpo(entry: OntologyKb, drops: Counter[str]) -> list[Term]:
    """HPO's phenotypic abnormalities (OBO)."""
    if not entry.hpo:
        return []
    import obonet

    with _reading(entry.hpo) as handle:
        nodes = {key: node for key, node in obonet.read_obo(handle).nodes(data=True) if "name" in node}
    lines = _lines({key: node.get("is_a", []) for key, node in nodes.items()})
    terms = []
    for key, node in nodes.items():
        if PHENOTYPES not in lines[key] or key == PHENOTYPES:
            drops["HPO: not a phenotypic abnormality"] += 1
            continue
        names = [(node["name"], "label")]
        for raw in node.get("synonym", ()):
            found = OBO_SYNONYM.match(raw)
            if not found or found[2] in ("NARROW", "BROAD") or found[3] == "obsolete_synonym":
                drops["HPO: narrow, broad or obsolete synonym"] += 1
            else:
                names.append((_unescape(found[1]), found[2].lower()))
        definition = OBO_DEFINITION.match(node.get("def", ""))
        terms.append(
            Term(
                id=("HPO", key.removeprefix("HP:")),
                names=_unique(names),
                types=_types(lines[key], HPO_TYPES, "T033"),
                definition=_clean(_unescape(definition[1])) if definition else None,
                cuis={x.removeprefix("UMLS:") for x in node.get("xref", ()) if x.startswith("UMLS:") and CUI.fullmatch(x.removeprefix("UMLS:"))},
                via="hpo",
            )
        )
    return terms


def _mesh(paths: Iterable[str]) -> dict[str, Mesh]:
    """MeSH records by id. Rows: id, name, synonyms (`|`), then tree numbers (`|`) of a heading, or the headings (`,`) of a supplementary record."""
    rows: dict[str, tuple[str, str, str]] = {}
    for path in paths:
        with _reading(path) as handle:
            for number, line in enumerate(handle, start=1):
                cells = line.rstrip("\n").split("\t")
                if len(cells) < 4:
                    raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not 4", "fetch the file again")
                rows[cells[0]] = (cells[1], cells[2], cells[3])
    diseases = {code for code, (_, _, trees) in rows.items() if code.startswith("D") and any(map(MESH_DISEASES.match, trees.split("|")))}

    def disease(code: str, last: str) -> bool:
        return code in diseases if code.startswith("D") else any(heading.strip("* ") in diseases for heading in last.split(","))

    return {code: Mesh(code, name, synonyms, disease(code, last)) for code, (name, synonyms, last) in rows.items()}


def _sssom(entry: OntologyKb, target: str) -> Iterator[Code]:
    """Pairs of Mondo id and code without prefix from a file of exact matches."""
    path = dict(entry.mondo_sssom).get(target)  # type: ignore[call-overload]
    if path is None:
        return
    for number, (subject, predicate, object_id) in _tsv(path, ("subject_id", "predicate_id", "object_id")):
        prefix, _, code = object_id.partition(":")
        if predicate != "skos:exactMatch" or prefix != SSSOM_PREFIX[target] or not subject.startswith("MONDO:"):
            raise UserError(
                "unexpected mapping", f"{path}:{number}", f"not an exact match of a MONDO and a {SSSOM_PREFIX[target]} id", "give Mondo's exact matches"
            )
        yield subject, code


# -------------------------------------------------------------------------------------------------------------- helpers


def _open(path: str) -> TextIO:
    """Text of a file, unpacked if its name ends in .gz or .zst."""
    if not Path(path).is_file():
        raise UserError("missing file", path, "it does not exist", "run the workflow, which fetches it, or correct the config")
    if path.endswith(".zst"):
        import zstandard

        return io.TextIOWrapper(zstandard.open(path, "rb"), encoding="utf-8", newline="\n")
    return gzip.open(path, "rt", encoding="utf-8", newline="\n") if path.endswith(".gz") else open(path, encoding="utf-8", newline="\n")


@contextmanager
def _reading(path: str) -> Iterator[TextIO]:
    """Open a file; what goes wrong while it is read and taken apart becomes a UserError that names it."""
    from zstandard import ZstdError

    try:
        with _open(path) as handle:
            yield handle
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, ZstdError) as error:
        raise UserError(
            "unreadable ontology", path, f"{type(error).__name__}: {error}", "fetch the file again, or give the file that the config describes"
        ) from error


def _tsv(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The named columns of a TSV file, with row numbers (1-based); comment lines start with #, cells may be quoted (SPARQL's way)."""
    with _reading(path) as handle:
        places: list[int] | None = None
        for number, cells in enumerate(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if not cells or cells[0].startswith("#"):
                continue
            if places is None:
                missing = [c for c in columns if c not in cells]
                if missing:
                    raise UserError("other columns", f"{path}:{number}", f"there is no {', '.join(missing)}", "give the file that the config describes")
                places, width = [cells.index(c) for c in columns], len(cells)
            elif len(cells) != width:
                raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not {width}", "fetch the file again")
            else:
                yield number, tuple(cells[p][1:-1] if cells[p].startswith('"') and cells[p].endswith('"') else cells[p] for p in places)


def _lines(parents: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Each term with all its ancestors."""
    done: dict[str, set[str]] = {}

    def line(key: str) -> set[str]:
        if key not in done:
            done[key] = {key}  # before its parents, so that a cycle ends
            done[key] = {key}.union(*(line(p) for p in parents.get(key, ())))
        return done[key]

    for key in parents:
        line(key)
    return done


def _types(line: Iterable[str], known: Mapping[str, str], default: str) -> set[str]:
    return {known[key] for key in line if key in known} or {default}


def _code_of(key: str) -> Code:
    source, _, code = key.partition(":")
    return source, code


def _unique(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names without surrounding blanks, each once, in order; empty ones dropped."""
    first: dict[str, str] = {}
    for name, kind in names:
        if clean := _clean(name):
            first.setdefault(clean, kind)
    return list(first.items())


def _clean(text: str) -> str | None:
    return " ".join(text.split()) or None


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
