"""Loads the concepts of a knowledge base with names and definition, and selects those that a generator writes about.

In: the kb stage's tables `concepts`, `names` and, for a selection by codes, `xrefs`. Out: `Concept` objects or CUIs. Writes no file and knows nothing
about prompts, notes or mentions in them.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mentionforge import tables
from mentionforge.concept_forms import CUI
from mentionforge.errors import UserError
from mentionforge.generation.settings import Concepts
from mentionforge.progress import say
from mentionforge.text import Span

_WORD = re.compile(r"\w+(?:['’]s\b)?")
_ENDING = re.compile(r"['’]s$|(?<=[^sui])s$")


@dataclass(frozen=True)
class Concept:
    """A concept with its distinct names.

    Attributes:
        cui: UMLS concept unique identifier.
        preferred: Preferred name.
        synonyms: All other names, by the number of sources that share them, then in alphabetical order.
        definition: First definition, or none.
        semantic_types: Codes of its types (T047), sorted.
    """

    cui: str
    preferred: str
    synonyms: tuple[str, ...] = ()
    definition: str | None = None
    semantic_types: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Preferred name, then the synonyms."""
        return (self.preferred, *self.synonyms)

    def common_names(self, limit: int | None = None) -> tuple[str, ...]:
        """The preferred name and the synonyms that differ by more than number, spelling or word order; at most `limit` names in all.

        Synonyms that do not read like running text are left out: inverted ("Pain, Abdominal"), bracketed or long ones.
        """
        names_by_words: dict[frozenset[str], str] = {}
        for name in self.names:
            if not names_by_words or (not re.search(r"[,(\[]", name) and len(name.split()) <= 6):
                names_by_words.setdefault(frozenset(fold(word.casefold()) for word, _ in words_of(name)) - {"of", "the"}, name)
        return tuple(names_by_words.values())[:limit]


def words_of(text: str) -> list[tuple[str, Span]]:
    """Words of a name or note with their spans. A possessive 's is part of its word."""
    return [(m[0], m.span()) for m in _WORD.finditer(text)]


@functools.lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """A case-folded word without possessive and plural s, in American spelling.

    The result serves comparison only ("diseases" and "disease" agree, so do "anaemia" and "anemia", "tumour" and "tumor").
    """
    stem = word
    if word.endswith("s"):
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
        selected = pa.array(sorted(cuis), pa.string())
        concepts, names = (t.filter(pc.is_in(t["cui"], value_set=selected)) for t in (concepts, names))
    sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for cui, name in zip(names["cui"].to_pylist(), names["name"].to_pylist(), strict=True):
        sources[cui][name] += 1
    by_cui = {}
    for row in concepts.select(["cui", "preferred_name", "definition", "semantic_types"]).to_pylist():
        cui, preferred = row["cui"], row["preferred_name"]
        synonyms = sorted((n for n in sources[cui] if n != preferred), key=lambda n: (-sources[cui][n], n))
        by_cui[cui] = Concept(cui, preferred, tuple(synonyms), row["definition"], tuple(row["semantic_types"]))
    return dict(sorted(by_cui.items()))


def parents(kb: Path, cuis: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Preferred names of the direct parents of concepts, each once and sorted; parents outside the knowledge base have no name and are left out.

    Args:
        kb: Folder of the knowledge base's tables.
        cuis: The concepts.
    """
    table, concepts = tables.read(tables.PARENTS, kb / "parents.parquet"), tables.read(tables.CONCEPTS, kb / "concepts.parquet")
    names = dict(zip(concepts["cui"].to_pylist(), concepts["preferred_name"].to_pylist(), strict=True))
    above: defaultdict[str, set[str]] = defaultdict(set)
    for cui, parent in zip(table["cui"].to_pylist(), table["parent"].to_pylist(), strict=True):
        if cui in cuis and parent in names and parent != cui:
            above[cui].add(names[parent])
    return {cui: tuple(sorted(higher)) for cui, higher in above.items()}


def select(kb: Path, settings: Concepts, mentions: Path | None = None) -> list[str]:
    """CUIs of the concepts that a generator writes about, sorted.

    The sample of `max` concepts ranks each concept by a hash of the seed and its CUI. So it depends neither on the order of the table nor on the
    other concepts, and a larger sample contains a smaller one.

    Args:
        kb: Folder of the knowledge base's tables.
        settings: The generator's `concepts`.
        mentions: Gold mentions of `settings.corpus`; needed if it is set. Only those of the training split count.

    Raises:
        UserError: The list of CUIs has a row that is no CUI, or no concept is left.
    """
    import pyarrow.compute as pc

    if (mentions is None) != (settings.corpus is None):
        raise UserError("missing mentions", str(kb), "concepts.corpus needs that corpus' mentions, and nothing else does", "this is a fault of the workflow")
    rows = tables.read(tables.CONCEPTS, kb / "concepts.parquet").to_pylist()
    chosen = {row["cui"] for row in rows}
    steps: list[tuple[str, set[str]]] = []
    if settings.require_definition:
        steps.append(("require_definition", {row["cui"] for row in rows if row["definition"]}))
    if settings.semantic_types:
        steps.append(("semantic_types", {row["cui"] for row in rows if not set(settings.semantic_types).isdisjoint(row["semantic_types"])}))
    if settings.xrefs:
        codes = tables.read(tables.XREFS, kb / "xrefs.parquet")
        steps.append(("xrefs", set(codes.filter(pc.field("source").isin(settings.xrefs))["cui"].to_pylist())))
    if settings.sources or settings.max_names:
        names = tables.read(tables.NAMES, kb / "names.parquet")
        if settings.sources:
            steps.append(("sources", set(names.filter(pc.field("source").isin(settings.sources))["cui"].to_pylist())))
        if settings.max_names:
            counts = names.group_by("cui").aggregate([("name", "count_distinct")])
            steps.append(("max_names", set(counts.filter(pc.field("name_count_distinct") <= settings.max_names)["cui"].to_pylist())))
    if settings.cuis:
        steps.append(("cuis", read_list(Path(settings.cuis), chosen)))
    if mentions is not None:
        gold = tables.read(tables.MENTIONS, mentions).filter(pc.field("split") == "train")
        train_mentions = Counter(cui for cuis in gold["cuis"].to_pylist() for cui in cuis)
        steps.append(("max_train_mentions", {cui for cui in chosen if train_mentions[cui] <= (settings.max_train_mentions or 0)}))
    for name, kept in steps:
        before = len(chosen)
        chosen &= kept
        say(f"{name}: {len(chosen):,} of {before:,} concepts stay")
    if not chosen:
        fix = "widen the setting that left none, or semantic_types of the kb"
        criteria = ", ".join(name for name, _ in steps) or "no setting"
        raise UserError("no concept to write about", str(kb / "concepts.parquet"), f"none fits the generator's `concepts` ({criteria})", fix)
    if settings.max is not None:
        return sorted(sorted(chosen, key=lambda cui: hashlib.sha256(f"{settings.seed}:{cui}".encode()).digest())[: settings.max])
    return sorted(chosen)


def read_list(path: Path, known: Collection[str]) -> set[str]:
    """Concept ids of a text file, one per line. Empty lines and text after a # are skipped. Ids that are not `known` lead to a warning.

    Raises:
        UserError: The file is missing, is not UTF-8, or has a row that is no concept id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("unreadable list of CUIs", str(path), str(error), "give a text file with one concept id per line") from error
    cuis: set[str] = set()
    for number, line in enumerate(lines, start=1):
        cui = line.partition("#")[0].strip()
        if cui and cui not in known and not CUI.fullmatch(cui) and not re.fullmatch(r"[^\s:]+:\S+", cui):
            fix = "one per line: a CUI is C and seven digits, other ids have a prefix, as HP:0001250"
            raise UserError("no CUI or id", f"{path}:{number}", f"{cui[:40]!r}", fix)
        cuis |= {cui} if cui else set()
    if unknown := sorted(cuis.difference(known)):
        say(f"warning: {path}: {len(unknown):,} of {len(cuis):,} ids are not in the knowledge base, {unknown[0]} first")
    return cuis
