"""Read MeSH: the names of its records, and which of them are diseases.

In: TSV files of descriptors and supplementary records. Out: records by id. MeSH has no CUIs: maps of other ontologies, or names, link it to concepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mentionforge.errors import UserError
from mentionforge.kb.ontologies.shared import open_text, unique_names

MESH_DISEASES = re.compile(r"C\d|F03")


class MeshRecord(NamedTuple):
    """A MeSH record. Synonyms stay one string until `names` splits them, as few records are used."""

    code: str
    heading: str
    synonyms: str  # joined by |
    disease: bool

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

    return {code: MeshRecord(code, name, synonyms, is_disease(code, placement)) for code, (name, synonyms, placement) in rows.items()}
