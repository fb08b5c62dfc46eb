"""Write the card of a corpus: counts per split, and overlap with the other corpora of the experiment and with its knowledge base.

In: folders of built corpora and their knowledge bases. Out: card.md in each folder, and overlap.csv. Neither contains text of a corpus.
Knows nothing of formats and models.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import tables
from mentionforge.corpora.checked import SUSPICIOUS
from mentionforge.corpora.concepts import REASONS
from mentionforge.corpora.duplicates import DocumentRef, NearDuplicateIndex, write_csv
from mentionforge.corpora.settings import NearDuplicates
from mentionforge.errors import UserError
from mentionforge.progress import say
from mentionforge.text import normalize_surface

VERSION = 1
"""Version of the part corpora.cards; raise it if earlier results would be wrong (mentionforge.versions)."""

OVERLAP_COLUMNS = (
    "corpus",
    "split",
    "other",
    "other_split",
    "documents",
    "documents_same_id",
    "documents_alike",
    "concepts",
    "concepts_shared",
    "surfaces",
    "surfaces_shared",
    "mentions",
    "mentions_of_shared_concepts",
)
"""Columns of overlap.csv: numbers of documents, distinct CUIs, distinct normalized surfaces and mentions of a split, and how many of them a
split of another corpus shares; `alike`: near duplicates (word trigrams, Jaccard 0.9), equal texts included."""

_NEAR = NearDuplicates()


@dataclass
class SplitContent:
    """The data of one split that are compared between corpora."""

    doc_ids: set[str] = field(default_factory=set)
    cuis: set[str] = field(default_factory=set)
    surfaces: set[str] = field(default_factory=set)
    mentions: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # normalized surface, CUIs
    alike: dict[tuple[str, str], int] = field(default_factory=Counter)  # documents with a near duplicate in corpus, split


def write_cards(corpora: Sequence[Path], kbs: Sequence[Path], out: Path) -> None:
    """Write card.md into the folder of every corpus, and overlap.csv.

    Args:
        corpora: Folders of built corpora, named after the corpora.
        kbs: Folder of the knowledge base of each corpus, in the same order.
        out: Path of overlap.csv.

    Raises:
        UserError: Different numbers of knowledge bases and corpora, two corpora with the same name, or a missing table.
    """
    names = [folder.name for folder in corpora]
    if len(kbs) != len(corpora) or len(set(names)) != len(names):
        raise UserError("wrong folders", "corpora cards", "each corpus has a name of its own and needs one --kb, in the same order", "correct the options")
    contents = dict(zip(names, (load(folder) for folder in corpora), strict=True))
    _compare_texts(corpora, contents)
    rows = list(overlaps(contents))
    write_csv(out, OVERLAP_COLUMNS, rows)
    for row in rows:
        if row["split"] == "test" and row["other_split"] == "train" and (n := max(row["documents_same_id"], row["documents_alike"])):
            say(f"WARNING: {n:,} test documents of {row['corpus']} are training documents of {row['other']}; see {out}")
    for folder, kb in zip(corpora, kbs, strict=True):
        text = card(folder, kb, contents[folder.name], [row for row in rows if row["corpus"] == folder.name])
        temporary = folder / f".card.md.{os.getpid()}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / "card.md")
    say(f"{len(corpora)} cards written")


def load(folder: Path) -> dict[str, SplitContent]:
    """The data of each split of a corpus that are compared."""
    documents = tables.read(tables.DOCUMENTS, folder / "documents.parquet").select(["doc_id", "split"]).to_pylist()
    mentions = tables.read(tables.MENTIONS, folder / "mentions.parquet").select(["split", "surface", "cuis"]).to_pylist()
    content_of: dict[str, SplitContent] = defaultdict(SplitContent)
    for row in documents:
        content_of[row["split"]].doc_ids.add(row["doc_id"])
    for row in mentions:
        split_content, surface = content_of[row["split"]], normalize_surface(row["surface"])
        split_content.cuis.update(row["cuis"])
        split_content.surfaces.add(surface)
        split_content.mentions.append((surface, tuple(row["cuis"])))
    return {split: content_of[split] for split in tables.SPLITS if split in content_of}


def _compare_texts(corpora: Sequence[Path], contents: Mapping[str, Mapping[str, SplitContent]]) -> None:
    """Count the documents of each split that have a near duplicate in another corpus. All corpora share one index."""
    if len(corpora) < 2:
        return
    index = NearDuplicateIndex(_NEAR)
    owners: list[str] = []
    pairs: set[tuple[tuple[str, str, str], str, str]] = set()
    for folder in corpora:
        documents = tables.read(tables.DOCUMENTS, folder / "documents.parquet").select(["doc_id", "split", "text"])
        for row in documents.to_pylist():
            grams = index.grams(row["text"])
            keys = index.keys(grams)
            for _, other in index.alike(grams, keys):
                if (name := owners[other.number]) != folder.name:
                    pairs.add(((folder.name, row["split"], row["doc_id"]), name, other.split))
                    pairs.add(((name, other.split, other.doc_id), folder.name, row["split"]))
            index.add(grams, keys, DocumentRef(row["split"], len(owners), row["doc_id"]))
            owners.append(folder.name)
    for (corpus, split, _), other_corpus, other_split in pairs:
        contents[corpus][split].alike[other_corpus, other_split] += 1


def overlaps(contents: Mapping[str, Mapping[str, SplitContent]]) -> Iterator[dict[str, Any]]:
    """Rows of overlap.csv: each split with each split of each other corpus."""
    for corpus, splits in contents.items():
        for split, content in splits.items():
            for other, other_splits in contents.items():
                if other == corpus:
                    continue
                for other_split, other_content in other_splits.items():
                    values = (
                        len(content.doc_ids),
                        len(content.doc_ids & other_content.doc_ids),
                        content.alike.get((other, other_split), 0),
                        len(content.cuis),
                        len(content.cuis & other_content.cuis),
                        len(content.surfaces),
                        len(content.surfaces & other_content.surfaces),
                        len(content.mentions),
                        sum(not other_content.cuis.isdisjoint(cuis) for _, cuis in content.mentions),
                    )
                    yield dict(zip(OVERLAP_COLUMNS, (corpus, split, other, other_split, *values), strict=True))


def card(folder: Path, kb: Path, content: Mapping[str, SplitContent], overlap: Sequence[Mapping[str, Any]]) -> str:
    """The card of a corpus in Markdown."""
    stats = read_stats(folder)
    splits = list(content)
    of_split = stats["splits"]
    names = kb_names(kb, {cui for split_content in content.values() for cui in split_content.cuis})
    lines = [f"# {stats['corpus']}", "", "Made by `mentionforge corpora cards`; counts of what was written, after all policies. No text of the corpus."]
    lines += ["", f"Knowledge base: {stats['kb']}. Policies: {_policies(stats['policies'])}.", "", "## Size", ""]
    size = [("documents", "documents"), ("sentences", "sentences"), ("mentions", "mentions"), ("distinct concept ids", "unique_ids")]
    size += [("distinct CUIs", "unique_cuis"), ("distinct surfaces", "unique_surfaces"), ("composite mentions", "composite")]
    size += [("mentions in several pieces", "discontinuous"), ("mentions with an abbreviation spelled out", "abbreviations_expanded")]
    size += [("mentions that no sentence holds wholly", "cut_by_sentence_boundary")]
    lines += _table(splits, [(label, [of_split[s][key] for s in splits]) for label, key in size])
    lines += ["", "## Buckets against the training split", ""]
    lines += _table(splits, [(f"`{b}`", [of_split[s]["buckets"][b] for s in splits]) for b in tables.BUCKETS])
    lines += ["", "## Words of a mention", ""]
    lines += _table(splits, [(words, [of_split[s]["words"][words] for s in splits]) for words in of_split[splits[0]]["words"]])
    lines += _table(splits, [("mean", [of_split[s]["mean_words"] for s in splits])])[2:]
    lines += ["", "## Offsets", ""]
    read = stats.get("read", {})  # a folder written by an earlier version has no such counts
    inside = {s: read.get(s, {}).get("surfaces_inside_words", 0) for s in splits}
    lines += _table(splits, [("surfaces that begin or end inside a word", [inside[s] for s in splits])])
    for s in splits:
        if inside[s] > SUSPICIOUS * (n := read.get(s, {}).get("mentions", 0)):
            share = f"{inside[s]:,} of {n:,} surfaces of {s} ({inside[s] / n:.1%})"
            lines += ["", f"**Warning:** {share} begin or end inside a word. The offsets may count other characters than the text has."]
    lines += ["", "## Mapping and ambiguity", ""]
    ambiguous = [("mentions with a CUI", [of_split[s]["mapped"] for s in splits])]
    ambiguous += [
        (f"without: {REASONS[r]}", [of_split[s]["unmapped"].get(r, 0) for s in splits]) for r in REASONS if any(of_split[s]["unmapped"].get(r) for s in splits)
    ]
    ambiguous += [("mentions with an id of several CUIs", [of_split[s]["ambiguous"] for s in splits])]
    ambiguous += [("distinct surfaces of several concepts", [sum(len(c) > 1 for c in _meanings(content[s]).values()) for s in splits])]
    ambiguous += [("mentions with such a surface", [_of_ambiguous_surfaces(content[s]) for s in splits])]
    lines += _table(splits, ambiguous)
    if id_forms := stats.get("ids_of_no_known_form"):
        lines += ["", "Ids that look like those of no known vocabulary, by form (9: digits, A and a: letters):", ""]
        lines += [
            f"- `{form}`: {form_counts['mentions']:,} mentions"
            for form, form_counts in sorted(id_forms.items(), key=lambda item: (-item[1]["mentions"], item[0]))
        ]
    lines += ["", "## Overlap with the knowledge base", ""]
    named = [("CUIs with a name in it", [len(content[s].cuis & names.keys()) for s in splits])]
    named += [("mentions whose surface is a name of their concept", [sum(any(x in names[c] for c in cuis) for x, cuis in content[s].mentions) for s in splits])]
    lines += _table(splits, named)
    lines += ["", "## Duplicate documents", ""]
    kinds = stats["duplicates"]
    lines += [f"- {kind}: {n:,} {place}" for kind, by_place in sorted(kinds.items()) for place, n in sorted(by_place.items())] or [
        "None, and no near duplicates."
    ]
    dropped = len(stats["dropped"]["duplicate_documents"])
    lines += [
        "",
        f"Dropped: {dropped:,} documents, {len(stats['dropped']['duplicate_mentions']):,} mentions given twice. Repaired offsets: {len(stats['repairs']):,}.",
    ]
    if overlap:
        lines += ["", "## Overlap with the other corpora", "", "Of the split at the left, how much the other corpus' split has too.", ""]
        head = ["split", "other", "documents, same id", "documents, nearly same text", "CUIs", "surfaces", "mentions of shared CUIs"]
        lines += [_row(head), _row(["---"] * 2 + ["---:"] * 5)]
        for row in overlap:
            shares = [_n_of(row["concepts_shared"], row["concepts"]), _n_of(row["surfaces_shared"], row["surfaces"])]
            shares += [_n_of(row["mentions_of_shared_concepts"], row["mentions"])]
            lines.append(_row([row["split"], f"{row['other']}, {row['other_split']}", f"{row['documents_same_id']:,}", f"{row['documents_alike']:,}", *shares]))
    return "\n".join(lines) + "\n"


def read_stats(folder: Path) -> dict[str, Any]:
    """stats.json of a corpus.

    Raises:
        UserError: It is missing or damaged.
    """
    path = folder / "stats.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError("unreadable stats", str(path), type(error).__name__, "give the folder of a corpus that was read") from error


def kb_names(kb: Path, cuis: set[str]) -> dict[str, set[str]]:
    """Normalized names by CUI; CUIs without a name are absent."""
    table = tables.read(tables.NAMES, kb / "names.parquet").select(["cui", "name"])
    table = table.filter(pc.is_in(table["cui"], value_set=pa.array(sorted(cuis), tables.STR)))
    names_of: dict[str, set[str]] = {}
    for cui, name in zip(table["cui"].to_pylist(), table["name"].to_pylist(), strict=True):
        names_of.setdefault(cui, set()).add(normalize_surface(name))
    return names_of


def _meanings(content: SplitContent) -> dict[str, set[tuple[str, ...]]]:
    """Distinct CUI sets of each surface, from mentions with a CUI."""
    cui_sets: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for surface, cuis in content.mentions:
        if cuis:
            cui_sets[surface].add(cuis)
    return cui_sets


def _of_ambiguous_surfaces(content: SplitContent) -> int:
    meanings = _meanings(content)
    return sum(len(meanings[surface]) > 1 for surface, cuis in content.mentions if cuis)


def _policies(policies: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {json.dumps(value) if isinstance(value, dict | list) else value}`" for key, value in sorted(policies.items()))


def _table(splits: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    head = [_row(["", *splits]), _row(["---", *["---:"] * len(splits)])]
    return head + [_row([label, *(f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for value in values)]) for label, values in rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _n_of(count: int, total: int) -> str:
    return f"{count:,} of {total:,}"
