"""Read MeSH: the names of its records, which of them are diseases, and their hierarchy.

In: TSV files of descriptors and supplementary records. Out: records by id, and parents. Gives no terms of its own, as MeSH has no CUIs: maps of other
ontologies, or names, link its records to concepts (`merge`). Knows nothing of the other ontologies.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.kb.sources.ontologies.contract import OntologySettings
from mentionforge.kb.sources.ontologies.published import Code
from mentionforge.kb.sources.ontologies.shared import Term, TermParents, open_text, unique_names

if TYPE_CHECKING:
    from mentionforge.kb.sources.ontologies.mondo import MondoMatches

VERSION = 1
"""Version of the part ontology.mesh; raise it if earlier results would be wrong (mentionforge.versions)."""

MESH_DISEASES = re.compile(r"C\d|F03")


class MeshSettings(OntologySettings):
    """Settings of MeSH."""

    mesh_names: tuple[str, ...] = Field(
        (), examples=[["mesh_id_label_mappings.tsv"]], description="MeSH names and synonyms (TSV), descriptors and supplementary records."
    )
    mesh_name_match: bool = Field(True, description="Map a MeSH id without a cross-reference to the CUIs that bear one of its names.")


def files(settings: MeshSettings) -> dict[str, str | None]:
    """Files that the records are read from, by role."""
    return {f"mesh_names_{i}": path for i, path in enumerate(settings.mesh_names)}


def terms(settings: MeshSettings, mondo: MondoMatches, drops: Counter[str]) -> dict[str, list[Term]]:
    """None: MeSH only adds names to concepts of the other ontologies (`records`)."""
    return {}


def parents(settings: MeshSettings) -> dict[str, TermParents]:
    """Direct parents of its records."""
    if not settings.mesh_names:
        return {}
    return {"MSH": TermParents({role: path for role, path in files(settings).items() if path}, mesh_parents(mesh_rows(settings.mesh_names)))}


class MeshRecord(NamedTuple):
    """A MeSH record. Synonyms stay one string until `names` splits them, as few records are used."""

    code: str
    heading: str
    synonyms: str  # joined by |
    disease: bool
    placement: str = ""  # tree numbers of a heading, joined by |; headings of a supplementary record, joined by ,

    def names(self) -> list[tuple[str, str]]:
        """(name, kind): the heading, then synonyms. Kinds are the term types that UMLS gives to MeSH names."""
        kinds = ("MH", "ET") if self.code.startswith("D") else ("NM", "SY")
        return unique_names([(self.heading, kinds[0]), *((s, kinds[1]) for s in self.synonyms.split("|"))])


def mesh_rows(paths: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Rows of MeSH by id: name; synonyms, joined by `|`; tree numbers of a heading, joined by `|`, or headings of a supplementary record, joined by `,`."""
    rows: dict[str, tuple[str, str, str]] = {}
    for path in paths:
        with open_text(path) as handle:
            for number, line in enumerate(handle, start=1):
                cells = line.rstrip("\n").split("\t")
                if len(cells) < 4:
                    raise UserError("truncated row", f"{path}:{number}", f"{len(cells)} columns, not 4", "fetch the file again")
                rows[cells[0]] = (cells[1], cells[2], cells[3])
    return rows


def records(paths: Iterable[str]) -> dict[str, MeshRecord]:
    """MeSH records by id."""
    rows = mesh_rows(paths)
    diseases = {code for code, (_, _, trees) in rows.items() if code.startswith("D") and any(map(MESH_DISEASES.match, trees.split("|")))}

    def is_disease(code: str, placement: str) -> bool:
        return code in diseases if code.startswith("D") else any(heading.strip("* ") in diseases for heading in placement.split(","))

    return {code: MeshRecord(code, name, synonyms, is_disease(code, placement), placement) for code, (name, synonyms, placement) in rows.items()}


def mesh_parents(rows: Mapping[str, tuple[str, str, str]]) -> dict[Code, list[Code]]:
    """Parents of MeSH records. The parent of a heading has its tree number without the last part; those of a supplementary record are its mapped headings.

    Args:
        rows: From `mesh_rows`.
    """
    heading_of: dict[str, str] = {}
    for code, (_, _, placement) in rows.items():
        if code.startswith("D"):
            heading_of.update((number, code) for number in placement.split("|") if MESH_DISEASES.match(number))
    parents: dict[Code, list[Code]] = defaultdict(list)
    for number, code in heading_of.items():
        higher = number.rpartition(".")[0]
        parents["MSH", code] += [("MSH", heading_of[higher])] if higher in heading_of else []
    for code, (_, _, placement) in rows.items():
        if not code.startswith("D"):
            parents["MSH", code] += [("MSH", heading.strip("* ")) for heading in placement.split(",") if heading.strip("* ")]
    return parents
