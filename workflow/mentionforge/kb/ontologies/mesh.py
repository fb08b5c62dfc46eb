"""MeSH: the names of its records, and which of them are diseases.

In: TSV files of descriptors and supplementary records. Out: records by id. MeSH has no CUIs: what it stands for, the maps of others or its names say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mentionforge.errors import UserError
from mentionforge.kb.ontologies.shared import reading, unique_names

MESH_DISEASES = re.compile(r"C\d|F03")


class MeshRecord(NamedTuple):
    """A MeSH record; names are taken apart only of the few records that are needed."""

    code: str
    heading: str
    synonyms: str  # joined by |
    disease: bool

    def names(self) -> list[tuple[str, str]]:
        """Heading first, then synonyms; kinds are MeSH's term types in UMLS."""
        kinds = ("MH", "ET") if self.code.startswith("D") else ("NM", "SY")
        return unique_names([(self.heading, kinds[0]), *((s, kinds[1]) for s in self.synonyms.split("|"))])


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


def records(paths: Iterable[str]) -> dict[str, MeshRecord]:
    """MeSH records by id."""
    rows = mesh_rows(paths)
    diseases = {code for code, (_, _, trees) in rows.items() if code.startswith("D") and any(map(MESH_DISEASES.match, trees.split("|")))}

    def disease(code: str, last: str) -> bool:
        return code in diseases if code.startswith("D") else any(heading.strip("* ") in diseases for heading in last.split(","))

    return {code: MeshRecord(code, name, synonyms, disease(code, last)) for code, (name, synonyms, last) in rows.items()}
