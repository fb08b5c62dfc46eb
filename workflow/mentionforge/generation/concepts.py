"""Concepts of a knowledge base as this stage needs them: names in order of use, definition, and the choice of those prompted.

Reads the kb stage's tables `concepts` and `names`, and `xrefs` where concepts are chosen by their codes; writes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mentionforge import config, tables
from mentionforge.errors import UserError
from mentionforge.text import Span

_WORD = re.compile(r"\w+(?:['’]s\b)?")
_ENDING = re.compile(r"['’]s$|(?<=[^sui])s$")


@dataclass(frozen=True)
class Concept:
    """A concept with its distinct names.

    Attributes:
        cui: UMLS concept unique identifier.
        preferred: Preferred name.
        synonyms: All other names; those that more sources share come first, then in alphabetical order.
        definition: First definition, if there is one.
    """

    cui: str
    preferred: str
    synonyms: tuple[str, ...] = ()
    definition: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Preferred name, then the synonyms."""
        return (self.preferred, *self.synonyms)

    def common_names(self, limit: int) -> tuple[str, ...]:
        """The preferred name and up to `limit - 1` synonyms that differ by more than number, spelling or the order of words.

        Synonyms that do not read like running text are left out: inverted ("Pain, Abdominal"), commented or long ones.
        """
        found: dict[frozenset[str], str] = {}
        for name in self.names:
            if not found or (not re.search(r"[,(\[]", name) and len(name.split()) <= 6):
                found.setdefault(frozenset(fold(word.casefold()) for word, _ in words_of(name)) - {"of", "the"}, name)
        return tuple(found.values())[:limit]


def words_of(text: str) -> list[tuple[str, Span]]:
    """Words of a name or note with their spans; a possessive 's belongs to its word."""
    return [(m[0], m.span()) for m in _WORD.finditer(text)]


@functools.lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """A case-folded word without possessive, plural s, and the difference between British and American spelling.

    The result is for comparison only ("diseases" and "disease" agree, so do "anaemia" and "anemia", "tumour" and "tumor").
    """
    stem = f"{word[:-6]}itis" if word.endswith("itides") else _ENDING.sub("", word) if len(word) > 3 else word
    return stem.replace("ae", "e").replace("oe", "e").replace("our", "or")


def tables_of(kb: Path) -> dict[str, Path]:
    """Role and path of the tables that `load` reads, for provenance."""
    return {"concepts": kb / "concepts.parquet", "names": kb / "names.parquet"}


def load(kb: Path, cuis: Collection[str] | None = None) -> dict[str, Concept]:
    """Concepts of the knowledge base in folder `kb`, sorted by CUI.

    Args:
        kb: Folder with concepts.parquet and names.parquet.
        cuis: Only these concepts; none: all.

    Raises:
        UserError: A table is missing or broken.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    concepts, names = tables.read(tables.CONCEPTS, kb / "concepts.parquet"), tables.read(tables.NAMES, kb / "names.parquet")
    if cuis is not None:
        wanted = pa.array(sorted(cuis), pa.string())
        concepts, names = (t.filter(pc.is_in(t["cui"], value_set=wanted)) for t in (concepts, names))
    sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for cui, name in zip(names["cui"].to_pylist(), names["name"].to_pylist(), strict=True):
        sources[cui][name] += 1
    found = {}
    for row in concepts.select(["cui", "preferred_name", "definition"]).to_pylist():
        cui, preferred = row["cui"], row["preferred_name"]
        synonyms = sorted((n for n in sources[cui] if n != preferred), key=lambda n: (-sources[cui][n], n))
        found[cui] = Concept(cui, preferred, tuple(synonyms), row["definition"])
    return dict(sorted(found.items()))


def select(kb: Path, settings: config.Concepts) -> list[str]:
    """CUIs of the concepts that a generator writes about, sorted.

    The sample of `max` concepts ranks each by a hash of the seed and its CUI: it depends neither on the order of the
    table nor on the other concepts, and a larger sample holds the smaller one.

    Raises:
        UserError: No concept is left.
    """
    chosen = []
    types = set(settings.semantic_types)
    for row in tables.read(tables.CONCEPTS, kb / "concepts.parquet").to_pylist():
        if settings.require_definition and not row["definition"]:
            continue
        if types and not types.intersection(row["semantic_types"]):
            continue
        chosen.append(row["cui"])
    if settings.xrefs:
        codes = tables.read(tables.XREFS, kb / "xrefs.parquet")
        coded = {cui for source, cui in zip(codes["source"].to_pylist(), codes["cui"].to_pylist(), strict=True) if source in settings.xrefs}
        chosen = [cui for cui in chosen if cui in coded]
    if not chosen:
        fix = "widen require_definition, semantic_types or xrefs of the generator, or semantic_types of the kb"
        raise UserError("no concept to write about", str(kb / "concepts.parquet"), "none fits the generator's `concepts` settings", fix)
    if settings.max is not None:
        chosen = sorted(chosen, key=lambda cui: hashlib.sha256(f"{settings.seed}:{cui}".encode()).digest())[: settings.max]
    return sorted(chosen)
