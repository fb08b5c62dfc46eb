"""Open ontologies become concepts, names, definitions and cross-references, merged by UMLS CUI.

Each ontology is read into terms; a term stands for the CUIs that a published map gives it. Mondo and the Disease Ontology are read as
published (OBO, OBO Graphs JSON, OWL) or from the lists of terms that Python packages ship; all others as published. Rules:
    CUIs        Mondo by its exact matches (SSSOM), without them by its own UMLS cross-references. DOID through Mondo's exact match where there is one, else by
                its own UMLS cross-references; HPO by its own. So a disease that Mondo and DOID file under different CUIs is one
                concept, not two that bear the same names. A term without a CUI is dropped and counted.
                `others` by their own, in the order listed; a term without a CUI by an exact match of `sssom` files. Of several CUIs
                of a term `several_cuis` keeps all, or the lowest, or none, counted.
    codes       A MeSH or OMIM code goes to the concepts that the first of the maps mondo, doid, others, sssom, mesh-name gives;
                within a map all its concepts are kept. The ontologies' own ids are codes as well.
    mesh-name   A disease of MeSH (trees C and F03, and supplementary records of those headings) that no map knows goes to the
                concepts that bear its heading, else to those that bear one of its synonyms (`text.normalize_surface`).
    names       Labels and synonyms of the terms (HPO and others: exact and related ones only), and the MeSH names of mapped MeSH ids.
    preferred   The label from Mondo, else DOID, else HPO, else the first of the others; of several terms, of the one with the lowest id.
    definitions In the same order; the first is the preferred one.
    types       No ontology gives UMLS semantic types. Mondo and DOID: T191 below neoplasm, T048 below psychiatric disorder,
                T037 below injury, else T047. HPO: T191 below Neoplasm, T184 below Constitutional symptom, else T033. Others: the
                entry's `semantic_type`. HPO's type counts only where no disease ontology has the concept.
"""

from __future__ import annotations

import csv
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
from mentionforge.errors import UserError
from mentionforge.kb.extracted import Extracted
from mentionforge.kb.settings import OntologyKb, OtherOntology
from mentionforge.kb.terms import Code, Published, code_of, exact_matches, is_term_list, open_binary, read_terms
from mentionforge.text import normalize_surface

VERSION = 2
"""Of the part kb.ontologies: raise it where earlier results would be wrong (mentionforge.versions)."""

MONDO_ROOTS = ("MONDO:0000001", "MONDO:0042489", "MONDO:0021178")
"""Disease, disease susceptibility, injury: what is left out are the characteristics of diseases."""

MONDO_TYPES = {"MONDO:0045024": "T191", "MONDO:0005070": "T191", "MONDO:0002025": "T048", "MONDO:0021178": "T037"}
DOID_TYPES = {"DOID:14566": "T191", "DOID:150": "T048"}
HPO_TYPES = {"HP:0002664": "T191", "HP:0025142": "T184"}
PHENOTYPES = "HP:0000118"
"""Root of HPO's phenotypic abnormalities; its other branches are modifiers, onset, inheritance."""

MESH_DISEASES = re.compile(r"C\d|F03")
CODED = ("MSH", "OMIM", "SNOMEDCT_US", "ICD10CM")
"""Vocabularies whose codes an ontology's own cross-references give to its concepts."""

CUI = re.compile(r"C\d{7}")


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
    mondo_cuis: dict[str, set[str]] = defaultdict(set)
    for mondo_id, cui in _sssom(entry, "UMLS"):
        mondo_cuis[mondo_id].add(cui)
    mondo = _mondo(entry, mondo_cuis, drops)
    doid = _doid(entry, mondo_cuis, drops)
    hpo = _hpo(entry, drops)
    others = {name: _other(name, settings, drops) for name, settings in entry.others.items()}
    matches = [
        (f"{path}:{number}", a, b)
        for path in entry.sssom
        for number, a, b in exact_matches(path, lambda _, predicate: drops.update([f"sssom: {predicate}, not an exact match"]))
    ]
    kb = _Merger()
    for terms in (mondo, doid, hpo, *others.values()):
        _match_cuis(terms, matches)
        for term in sorted(terms, key=lambda t: t.id):
            _choose_cuis(term, entry.several_cuis, drops)
            kb.add(term, drops)
    kb.add_matches(matches, drops)
    mesh = _mesh(entry.mesh_names)
    kb.add_mesh(mesh, entry.mesh_name_match, drops)
    concepts, names, definitions, xrefs = kb.rows()
    inputs = {"mondo": entry.mondo, **{f"sssom_{k}": v for k, v in entry.mondo_sssom.items()}, "doid": entry.doid, "doid_xrefs": entry.doid_xrefs}
    inputs |= {"doid_definitions": entry.doid_definitions, "hpo": entry.hpo, **{f"mesh_names_{i}": path for i, path in enumerate(entry.mesh_names)}}
    inputs |= {f"others_{name}": settings.path for name, settings in entry.others.items()} | {f"matches_{i}": path for i, path in enumerate(entry.sssom)}
    funnel = {
        "terms": {"mondo": len(mondo), "doid": len(doid), "hpo": len(hpo), **{name: len(terms) for name, terms in others.items()}, "mesh": len(mesh)},
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

    def add_matches(self, matches: Iterable[tuple[str, Code, Code]], drops: Counter[str]) -> None:
        """Give MeSH and OMIM codes the concepts that an exact match names, by CUI or by a term that has one."""
        for _, *pair in matches:
            for code, other in (pair, pair[::-1]):
                if code[0] not in ("MSH", "OMIM"):
                    continue
                cuis = {other[1]} & self.preferred.keys() if other[0] == "UMLS" else self.codes.get(other, ("", set()))[1]
                if cuis and other[0] not in ("MSH", "OMIM"):
                    self._code(code, set(cuis), "sssom", drops)

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


def _mondo(entry: OntologyKb, cuis: Mapping[str, set[str]], drops: Counter[str]) -> list[Term]:
    """Mondo's live diseases, as published or as {id: {label, synonyms?, description?, deprecated, ancestors: {id: distance}}}."""
    if not entry.mondo:
        return []
    codes: dict[str, set[Code]] = defaultdict(set)
    for target in ("MSH", "OMIM", "OMIMPS"):
        for mondo, code in _sssom(entry, target):
            codes[mondo].add(code_of(f"{target}:{code}"))
    own: dict[str, set[str]] = defaultdict(set)
    if not is_term_list(entry.mondo):
        published = {t.id: t for t in read_terms(entry.mondo)}
        lines = _lines({key: t.parents for key, t in published.items()})
        rows = [(key, t.obsolete, lines[key], t.name, [text for text, *_ in t.synonyms], t.definition) for key, t in published.items()]
        for key, term in published.items():
            own[key] = _own_cuis(term)
    else:
        if not cuis:
            raise UserError("missing map", "config: mondo_sssom.UMLS", "Mondo as a list of terms has no CUIs", "give its exact matches to UMLS")
        with reading(entry.mondo) as handle:
            data = json.load(handle)
            rows = [(key, d["deprecated"], {key, *d["ancestors"]}, d["label"], d.get("synonyms", ()), d.get("description") or "") for key, d in data.items()]
    terms = []
    for key, obsolete, line, label, synonyms, definition in rows:
        if not key.startswith("MONDO:"):
            continue
        if obsolete:
            drops["MONDO: deprecated term"] += 1
        elif line.isdisjoint(MONDO_ROOTS):
            drops["MONDO: not a disease"] += 1
        else:
            names = _unique([(label, "label"), *((s, "synonym") for s in synonyms)])
            found = cuis.get(key, set()) if cuis else own[key]
            terms.append(Term(code_of(key), names, _types(line, MONDO_TYPES, "T047"), _clean(definition), set(found), "mondo", codes[key]))
    return terms


def _doid(entry: OntologyKb, mondo_cuis: Mapping[str, set[str]], drops: Counter[str]) -> list[Term]:
    """DOID's terms, as published or as [{id, name, synonyms?, relations?: {is_a}, xrefs?: [{namespace, id}]}]; TSV of xrefs, TSV of definitions."""
    data: dict[str, list[tuple[str, str]]] = {}
    parents: dict[str, Iterable[str]] = {}
    labels: dict[str, str] = {}
    definitions: dict[str, str] = {}
    xrefs: dict[str, set[Code]] = defaultdict(set)
    if entry.doid and not is_term_list(entry.doid):
        for published in read_terms(entry.doid):
            if published.obsolete:
                drops["DOID: obsolete term"] += 1
                continue
            data[published.id] = [(published.name, "label"), *((text, "synonym") for text, *_ in published.synonyms)]
            parents[published.id] = published.parents
            if published.definition:
                definitions[published.id] = published.definition
            xrefs[published.id] |= {code_of(x) for x in published.xrefs}
    elif entry.doid:
        with reading(entry.doid) as handle:
            for term in json.load(handle):
                data[term["id"]] = [(term["name"], "label"), *((s, "synonym") for s in term.get("synonyms", ()))]
                parents[term["id"]] = term.get("relations", {}).get("is_a", [])
                xrefs[term["id"]] |= {code_of(f"{x['namespace']}:{x['id']}") for x in term.get("xrefs", ())}
    if entry.doid_xrefs:
        for _, (key, label, xref) in _tsv(entry.doid_xrefs, ("id", "label", "xref")):
            labels[key] = label
            xrefs[key].add(code_of(xref))
    if entry.doid_definitions:
        for _, (key, name, definition) in _tsv(entry.doid_definitions, ("?id", "?name", "?definition")):
            labels.setdefault(key, name)
            definitions.setdefault(key, definition)
    through_mondo: dict[str, set[str]] = defaultdict(set)
    for mondo, code in _sssom(entry, "DOID"):
        through_mondo[f"DOID:{code}"] |= mondo_cuis.get(mondo, set())
    lines = _lines(parents)
    terms = []
    for key in {*data, *labels}:
        own = {code for vocabulary, code in xrefs[key] if vocabulary == "UMLS" and CUI.fullmatch(code)}
        known = through_mondo.get(key, set())
        if known and own - known:
            drops["DOID: term's own CUIs, other than Mondo's"] += 1
        current = [(labels[key], "label")] if key in labels else []
        terms.append(
            Term(
                id=code_of(key),
                names=_unique([*current, *data.get(key, ())]),
                types=_types(lines.get(key, {key}), DOID_TYPES, "T047"),
                definition=_clean(definitions.get(key, "")),
                cuis=set(known or own),
                via="mondo" if known else "doid",
                codes={code for code in xrefs[key] if code[0] in ("MSH", "OMIM")},
            )
        )
    return terms


def _hpo(entry: OntologyKb, drops: Counter[str]) -> list[Term]:
    """HPO's phenotypic abnormalities."""
    if not entry.hpo:
        return []
    published = {t.id: t for t in read_terms(entry.hpo)}
    lines = _lines({key: t.parents for key, t in published.items()})
    terms = []
    for key, term in published.items():
        if term.obsolete or PHENOTYPES not in lines[key] or key == PHENOTYPES:
            drops["HPO: not a phenotypic abnormality"] += 1
            continue
        terms.append(Term(code_of(key), _scoped(term, "HPO", drops), _types(lines[key], HPO_TYPES, "T033"), _clean(term.definition), _own_cuis(term), "hpo"))
    return terms


def _other(name: str, settings: OtherOntology, drops: Counter[str]) -> list[Term]:
    """The live terms of another ontology, below its roots."""
    published = {t.id: t for t in read_terms(settings.path)}
    lines = _lines({key: t.parents for key, t in published.items()})
    if missing := sorted(set(settings.roots) - set(published)):
        raise UserError("unknown root", settings.path, f"{missing[0]} is no term of it", f"correct others.{name}.roots")
    terms = []
    for key, term in published.items():
        if term.obsolete:
            drops[f"{name}: obsolete term"] += 1
        elif settings.roots and lines[key].isdisjoint(settings.roots):
            drops[f"{name}: not below the roots"] += 1
        else:
            codes = {code for code in map(code_of, term.xrefs) if code[0] in CODED}
            own = (name, key.partition(":")[2] or key)
            terms.append(Term(own, _scoped(term, name, drops), {settings.semantic_type}, _clean(term.definition), _own_cuis(term), name.lower(), codes))
    return terms


def _own_cuis(term: Published) -> set[str]:
    return {code for vocabulary, code in map(code_of, term.xrefs) if vocabulary == "UMLS" and CUI.fullmatch(code)}


def _scoped(term: Published, source: str, drops: Counter[str]) -> list[tuple[str, str]]:
    """Label and the exact and related synonyms of a term; others are counted."""
    names = [(term.name, "label")]
    for text, scope, kind in term.synonyms:
        if scope in ("narrow", "broad") or kind == "obsolete_synonym":
            drops[f"{source}: narrow, broad or obsolete synonym"] += 1
        else:
            names.append((text, scope))
    return _unique(names)


def _match_cuis(terms: Iterable[Term], matches: Iterable[tuple[str, Code, Code]]) -> None:
    """Give terms without a CUI those of an exact match."""
    cuis: dict[Code, set[str]] = defaultdict(set)
    for where, *pair in matches:
        for code, other in (pair, pair[::-1]):
            if other[0] == "UMLS":
                if not CUI.fullmatch(other[1]):
                    raise UserError("wrong CUI", where, f"{other[1]!r} is none", "a CUI is C and seven digits")
                cuis[code].add(other[1])
    for term in terms:
        if not term.cuis and term.id in cuis:
            term.cuis, term.via = set(cuis[term.id]), "sssom"


def _choose_cuis(term: Term, policy: str, drops: Counter[str]) -> None:
    if len(term.cuis) > 1 and policy != "all":
        drops[f"{term.id[0]}: term with several CUIs, {'the lowest kept' if policy == 'lowest' else 'left out'}"] += 1
        term.cuis = {min(term.cuis)} if policy == "lowest" else set()


def mesh_rows(paths: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Rows of MeSH by id: name, synonyms (`|`), then tree numbers (`|`) of a heading, or the headings (`,`) of a supplementary record."""
    rows: dict[str, tuple[str, str, str]] = {}
    for path in paths:
        with reading(path) as handle:
            for number, line in enumerate(handle, start=1):
                cells = line.rstrip("\n").split("\t")
                if len(cells) < 4:
                    raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not 4", "fetch the file again")
                rows[cells[0]] = (cells[1], cells[2], cells[3])
    return rows


def _mesh(paths: Iterable[str]) -> dict[str, Mesh]:
    """MeSH records by id."""
    rows = mesh_rows(paths)
    diseases = {code for code, (_, _, trees) in rows.items() if code.startswith("D") and any(map(MESH_DISEASES.match, trees.split("|")))}

    def disease(code: str, last: str) -> bool:
        return code in diseases if code.startswith("D") else any(heading.strip("* ") in diseases for heading in last.split(","))

    return {code: Mesh(code, name, synonyms, disease(code, last)) for code, (name, synonyms, last) in rows.items()}


def _sssom(entry: OntologyKb, target: str) -> Iterator[tuple[str, str]]:
    """Pairs of Mondo id and code without prefix from a file of exact matches."""
    path = dict(entry.mondo_sssom).get(target)  # type: ignore[call-overload]
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


# -------------------------------------------------------------------------------------------------------------- helpers


@contextmanager
def reading(path: str) -> Iterator[TextIO]:
    """Open a file; what goes wrong while it is read and taken apart becomes a UserError that names it."""
    from zstandard import ZstdError

    try:
        with io.TextIOWrapper(open_binary(path), encoding="utf-8", newline="\n") as handle:
            yield handle
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, ZstdError) as error:
        raise UserError(
            "unreadable ontology", path, f"{type(error).__name__}: {error}", "fetch the file again, or give the file that the config describes"
        ) from error


def _tsv(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The named columns of a TSV file, with row numbers (1-based); comment lines start with #, cells may be quoted (SPARQL's way)."""
    with reading(path) as handle:
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


def _unique(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names without surrounding blanks, each once, in order; empty ones dropped."""
    first: dict[str, str] = {}
    for name, kind in names:
        if clean := _clean(name):
            first.setdefault(clean, kind)
    return list(first.items())


def _clean(text: str) -> str | None:
    return " ".join(text.split()) or None
