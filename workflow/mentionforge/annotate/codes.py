"""Codes of concepts in the vocabularies that are asked for.

In: the cross-references of a knowledge base (`tables.XREFS`), concept ids, names of vocabularies. Out: the codes of a concept, the preferred one of each
vocabulary first, with the map that gave each. Knows nothing of mentions and formats.
"""

# A concept may have several codes of a vocabulary. The preferred one is the first by this order:
# 1. the concept's own id, if it is a code of the vocabulary (HP:0001250);
# 2. codes that stand for this concept alone, before those that stand for others as well;
# 3. codes from published maps, before those that were found by comparing names;
# 4. the shorter code (E11 before E11.9, which is more specific), then the lower one.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.annotate.vocabularies import own_code
from mentionforge.errors import UserError

if TYPE_CHECKING:
    from mentionforge.annotate.pipeline import Materials

OWN_ID = "concept id"
"""Provenance of a code that is the concept's own id."""

BY_NAME = ("mesh-name",)
"""Maps that compare names; all others are published."""


@dataclass(frozen=True)
class ConceptCode:
    """A code of a concept.

    Attributes:
        vocabulary: As in `tables.XREFS`: MSH, SNOMEDCT_US, ….
        code: Without prefix.
        preferred: The first one of its vocabulary; exactly one for each vocabulary in which the concept has a code.
        via: The map that gave it: `mondo`, `MRCONSO`, `concept id`, …; several are joined by `, `.
    """

    vocabulary: str
    code: str
    preferred: bool
    via: str


class Codes:
    """The codes of concepts in some vocabularies."""

    def __init__(self, vocabularies: Sequence[str], xrefs: pa.Table) -> None:
        """Sort the cross-references.

        Args:
            vocabularies: Names, in the order in which the codes of a concept stand.
            xrefs: `tables.XREFS`.
        """
        self.vocabularies = tuple(vocabularies)
        self._sorted = _sorted(xrefs, self.vocabularies)
        runs = pc.run_end_encode(self._sorted["cui"].combine_chunks())
        ends = runs.run_ends.to_pylist()
        self._rows = dict(zip(runs.values.to_pylist(), zip([0, *ends], ends, strict=False), strict=True))
        self._known: dict[str, tuple[ConceptCode, ...]] = {}

    def of(self, concept_id: str) -> tuple[ConceptCode, ...]:
        """All codes of a concept, by vocabulary in the order asked for; the preferred one of each vocabulary first."""
        if concept_id not in self._known:
            start, end = self._rows.get(concept_id, (0, 0))
            codes_of: dict[str, dict[str, str]] = {name: {} for name in self.vocabularies}
            own = own_code(concept_id)
            if own and own[0] in codes_of:
                codes_of[own[0]][own[1]] = OWN_ID
            for row in self._sorted.slice(start, end - start).to_pylist():
                codes_of[row["source"]].setdefault(row["code"], row["via"])
            self._known[concept_id] = tuple(
                ConceptCode(name, code, rank == 0, via) for name, codes in codes_of.items() for rank, (code, via) in enumerate(codes.items())
            )
        return self._known[concept_id]


def _sorted(xrefs: pa.Table, vocabularies: Sequence[str]) -> pa.Table:
    """Cross-references to the vocabularies, one row per concept and code, sorted by concept, vocabulary and preference."""
    import duckdb

    with duckdb.connect() as db:
        db.register("xrefs", xrefs.filter(pc.is_in(xrefs["source"], value_set=pa.array(vocabularies, tables.STR))))
        db.register("asked", pa.table({"source": pa.array(vocabularies, tables.STR), "position": pa.array(range(len(vocabularies)), pa.int64())}))
        db.register("guessing", pa.table({"via": pa.array(BY_NAME, tables.STR)}))
        return db.sql(
            """
            WITH codes AS (
                SELECT cui, source, code, string_agg(DISTINCT via, ', ' ORDER BY via) AS maps, bool_and(via IN (SELECT via FROM guessing)) AS guessed
                FROM xrefs GROUP BY cui, source, code
            ), counted AS (SELECT *, count(*) OVER (PARTITION BY source, code) > 1 AS shared FROM codes)
            SELECT cui, source, code, maps AS via FROM counted JOIN asked USING (source)
            ORDER BY cui, position, shared, guessed, length(code), code
            """
        ).to_arrow_table()


def parse(text: str) -> tuple[str, ...]:
    """Names of vocabularies from a list with commas, each once, in order.

    Raises:
        UserError: The list is empty.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError("no vocabulary", "--codes", "", "name some, as --codes MSH,OMIM")
    return names


def of_materials(materials: Materials, vocabularies: Sequence[str]) -> Codes | None:
    """The codes that an annotator names; None if no vocabulary is asked for. See `load`."""
    return load(vocabularies, materials.xrefs, materials.concepts["cui"], materials.withheld) if vocabularies else None


def load(vocabularies: Sequence[str], xrefs: Path | None, concept_ids: pa.ChunkedArray, withheld: Mapping[str, int] | None = None) -> Codes:
    """Read the codes of a knowledge base in some vocabularies.

    Args:
        vocabularies: Names, in any case of letters.
        xrefs: Parquet file of `tables.XREFS`; none: there is none, and ids of concepts are the only codes.
        concept_ids: Ids of the concepts.
        withheld: Numbers of codes that the bundle was written without, by licensed vocabulary.

    Raises:
        UserError: A vocabulary is not known, or its codes were left out of the bundle.
    """
    if xrefs is not None and not xrefs.is_file():
        raise UserError("missing file", str(xrefs), "it holds the codes", "make it anew, or leave --codes out")
    rows = tables.read(tables.XREFS, xrefs) if xrefs else tables.build(tables.XREFS, [])
    known = sorted({*rows["source"].unique().to_pylist(), *own_vocabularies(concept_ids)})
    spelled = {name.upper(): name for name in [*known, *(withheld or ())]}
    names = [spelled.get(name.upper(), name) for name in vocabularies]
    if missing := [name for name in names if name in (withheld or ())]:
        why = f"the bundle was written without those of {', '.join(missing)}, which are licensed"
        raise UserError("missing codes", "--codes", why, "write it with --licensed-text if you may use them, or leave them out")
    if unknown := [name for name in names if name not in known]:
        why = f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} no vocabulary of this knowledge base"
        why += "" if xrefs else ", whose bundle was written without codes"
        raise UserError("unknown vocabulary", "--codes", why, f"known: {', '.join(known) or 'none'}")
    return Codes(tuple(dict.fromkeys(names)), rows)


def own_vocabularies(concept_ids: pa.ChunkedArray) -> set[str]:
    """Vocabularies that concept ids are codes of."""
    prefixed = pc.match_substring(concept_ids, ":")
    plain = pc.match_substring_regex(concept_ids, r"^C\d{7}$")
    examples = pc.unique(pc.replace_substring_regex(concept_ids.filter(prefixed), r"^([^:]*):.*$", r"\1:1")).to_pylist()
    examples += concept_ids.filter(plain).slice(0, 1).to_pylist()
    return {own[0] for own in map(own_code, examples) if own}
