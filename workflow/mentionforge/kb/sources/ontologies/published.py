"""Read terms of an ontology as published, and SSSOM mappings between terms.

In: a file in OBO, OBO Graphs JSON or RDF/XML OWL (read with pronto), or SSSOM TSV; may be packed (.gz, .zst). Out: `PublishedTerm`s, or pairs of codes.
Fetches no imports of an ontology. Knows nothing of any one ontology.
"""

from __future__ import annotations

import gzip
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mentionforge.errors import UserError

Code = tuple[str, str]
"""Vocabulary and code without prefix: ("MSH", "D003920")."""

VOCABULARIES = {
    "umls": "UMLS",
    "umls_cui": "UMLS",
    "mesh": "MSH",
    "msh": "MSH",
    "omim": "OMIM",
    "mim": "OMIM",
    "omimps": "OMIMPS",
    "mondo": "MONDO",
    "doid": "DOID",
    "hp": "HPO",
    "hpo": "HPO",
    "orpha": "ORPHANET",
    "orphanet": "ORPHANET",
    "ordo": "ORPHANET",
    "snomedct_us": "SNOMEDCT_US",
    "snomedct": "SNOMEDCT_US",
    "sctid": "SNOMEDCT_US",
    "icd10cm": "ICD10CM",
}
"""Vocabulary by prefix in lower case; any other prefix is its own vocabulary."""


class PublishedTerm(NamedTuple):
    """A term as published. Synonyms are (text, scope in lower case, type), sorted; alternates are former ids."""

    id: str
    name: str
    synonyms: tuple[tuple[str, str, str], ...]
    definition: str
    xrefs: tuple[str, ...]
    parents: tuple[str, ...]
    obsolete: bool
    alternates: tuple[str, ...] = ()


def code_of(curie: str) -> Code:
    """Vocabulary and code of a prefixed id: `MIM:PS100` and `OMIMPS:100` are ("OMIM", "PS100")."""
    prefix, _, code = curie.partition(":")
    vocabulary = VOCABULARIES.get(prefix.lower(), prefix)
    return ("OMIM", f"PS{code.removeprefix('PS')}") if vocabulary == "OMIMPS" else (vocabulary, code)


def open_binary(path: str) -> BinaryIO:
    """Open a file for reading bytes, unpacked if its name ends in .gz or .zst.

    Raises:
        UserError: It does not exist.
    """
    if not Path(path).is_file():
        raise UserError("missing file", path, "it does not exist", "run the workflow, which fetches it, or correct the config")
    if path.endswith(".zst"):
        import zstandard

        return io.BufferedReader(zstandard.open(path, "rb"))
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def read_terms(path: str) -> list[PublishedTerm]:
    """All named terms of an ontology, obsolete ones too, sorted by id.

    Raises:
        UserError: The file has none of the formats, or is malformed.
    """
    import pronto

    with warnings.catch_warnings():  # pronto warns about constructs that are not used here
        warnings.simplefilter("ignore")
        try:
            if _without_graph(path):
                raise UserError("unreadable ontology", path, "it holds no graph", "give OBO, OBO Graphs JSON or RDF/XML OWL, whole and unedited")
            with open_binary(path) as handle:
                ontology = pronto.Ontology(handle, import_depth=0)
            terms = [
                PublishedTerm(
                    str(term.id),
                    str(term.name),
                    tuple(sorted((s.description, (s.scope or "RELATED").lower(), s.type.id if s.type else "") for s in term.synonyms)),
                    str(term.definition or ""),
                    tuple(sorted(x.id for x in term.xrefs)),
                    tuple(sorted(p.id for p in term.superclasses(distance=1, with_self=False))),
                    bool(term.obsolete),
                    tuple(sorted(term.alternate_ids)),
                )
                for term in ontology.terms()
                if term.name
            ]
        except UserError:
            raise
        except BaseException as error:  # pronto and its parsers raise errors of any type; a panic of the parser in Rust is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError("unreadable ontology", path, why, "give OBO, OBO Graphs JSON or RDF/XML OWL, whole and unedited") from error
    if not terms:
        raise UserError("unreadable ontology", path, "it holds no named term", "give OBO, OBO Graphs JSON or RDF/XML OWL, whole and unedited")
    return sorted(terms)


def _without_graph(path: str) -> bool:
    """Whether a .json file begins as OBO Graphs without any graph, on which the parser would panic, and print its stack."""
    if ".json" not in Path(path).suffixes:
        return False
    with open_binary(path) as handle:
        start = handle.read(1 << 20).decode("utf-8", "replace")
    return '"graphs"' not in start or re.search(r'"graphs"\s*:\s*\[\s*\]', start) is not None


def is_term_list(path: str) -> bool:
    """Whether a .json file is a plain list or mapping of terms, not OBO Graphs."""
    if ".json" not in Path(path).suffixes:
        return False
    with open_binary(path) as handle:
        start = handle.read(1 << 12).decode("utf-8", "replace")
    return '"graphs"' not in start


def exact_matches(path: str, skipped: Callable[[int, str], None]) -> Iterator[tuple[int, Code, Code]]:
    """Exact matches of an SSSOM file (TSV) as (row number, subject, object); calls `skipped` with row number and predicate of any other mapping.

    Raises:
        UserError: The column subject_id, predicate_id or object_id is missing, a row is cut short, or the file is unreadable.
    """
    indexes: list[int] | None = None
    width = 0
    try:
        with io.TextIOWrapper(open_binary(path), encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, start=1):
                cells = line.rstrip("\r\n").split("\t")
                if not line.strip() or line.startswith("#"):
                    continue
                if indexes is None:
                    columns = ("subject_id", "predicate_id", "object_id")
                    if missing := [c for c in columns if c not in cells]:
                        raise UserError("other columns", f"{path}:{number}", f"there is no {', '.join(missing)}", "give mappings in SSSOM's TSV form")
                    indexes, width = [cells.index(c) for c in columns], len(cells)
                elif len(cells) != width:
                    raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not {width}", "fetch the file again")
                elif cells[indexes[1]] != "skos:exactMatch":
                    skipped(number, cells[indexes[1]])
                else:
                    yield number, code_of(cells[indexes[0]]), code_of(cells[indexes[2]])
    except (ValueError, EOFError, OSError) as error:
        raise UserError("unreadable ontology", path, f"{type(error).__name__}: {error}", "fetch the file again") from error
