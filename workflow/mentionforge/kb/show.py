"""Print the card of a concept, or the counts of a knowledge base.

In: a CUI or a name, and the folder of an extracted knowledge base. Out: text on the console. Knows nothing of where a table came from.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.extract import TABLES, summary
from mentionforge.semantics import NAMES
from mentionforge.text import normalize_surface


def find(query: str, kb: Path) -> list[str]:
    """Concepts that match a query: a concept id, a retired CUI, or a name (compared without case and punctuation).

    Raises:
        UserError: No concept matches; the message lists similar names.
    """
    import pyarrow.compute as pc
    from rapidfuzz import fuzz, process

    concepts, retired, names = (tables.read(t, kb / f"{t.name}.parquet") for t in (tables.CONCEPTS, tables.RETIRED, tables.NAMES))
    cui_query = query.strip().upper()
    cuis = set(concepts.filter(pc.equal(pc.utf8_upper(concepts["cui"]), cui_query))["cui"].to_pylist())
    if not cuis:
        cuis = set(retired.filter(pc.field("retired") == cui_query)["cui"].to_pylist())
    if cuis == {""}:
        raise UserError("deleted concept", str(kb), f"{cui_query} was deleted from UMLS, and nothing stands for it", "search by name")
    if not cuis:
        bearers: dict[str, set[str]] = defaultdict(set)
        for cui, name in zip(names["cui"].to_pylist(), names["name"].to_pylist(), strict=True):
            bearers[normalize_surface(name)].add(cui)
        surface = normalize_surface(query)
        cuis = bearers.get(surface, set())
        if not cuis:
            similar = process.extract(surface, sorted(bearers), scorer=fuzz.ratio, limit=5, score_cutoff=60)
            listed = "; ".join(f"{name} ({', '.join(sorted(bearers[name])[:3])})" for name, _, _ in similar)
            raise UserError("unknown concept", str(kb), f"nothing is called {query!r}", f"near names: {listed}" if listed else "give a concept id or a name")
    return sorted(cuis)


def cards(cuis: list[str], kb: Path) -> list[dict[str, Any]]:
    """For each concept its row of `concepts`, its names, definitions and cross-references, and the CUIs that it replaces."""
    import pyarrow.compute as pc

    read = {t.name: tables.read(t, kb / f"{t.name}.parquet").filter(pc.field("cui").isin(cuis)).to_pylist() for t in TABLES}
    concepts = read.pop("concepts")
    return [{**c, **{name: [row for row in rows if row["cui"] == c["cui"]] for name, rows in read.items()}} for c in concepts]


def show(query: str, kb: Path, console: Console | None = None) -> None:
    """Print the cards of the concepts that match a CUI or a name."""
    console = console or Console(highlight=False)
    for card in cards(find(query, kb), kb):
        sources: dict[str, list[str]] = defaultdict(list)
        for name in card["names"]:
            sources[name["name"]].append(f"{name['source']} {name['term_type']}".strip())
        ordered = sorted(sources.items(), key=lambda item: (item[0] != card["preferred_name"], item[0].casefold(), item[0]))
        fields = {
            "types": [f"{tui} {NAMES.get(tui, '')}".strip() for tui in card["semantic_types"]],
            "definition": [f"{d['definition']}  ({d['source']})" for d in card["definitions"]],
            "codes": [" ".join(f"{x['source']}:{x['code']}" for x in card["xrefs"])],
            "replaces": [" ".join(f"{x['retired']} ({x['relation']})" for x in card["retired"])],
            "names": [f"{name}  ({', '.join(where)})" for name, where in ordered],
        }
        body = Table.grid(padding=(0, 2))
        for field, lines in fields.items():
            for i, line in enumerate(lines if any(lines) else ["none"]):
                body.add_row("" if i else field, line)
        console.print(Panel(body, title=f"{card['cui']}  {card['preferred_name']}", title_align="left"), markup=False)


def stats(kb: Path, console: Console | None = None) -> None:
    """Print the counts of a knowledge base."""
    console = console or Console(highlight=False)
    counts = summary(*(tables.read(t, kb / f"{t.name}.parquet") for t in TABLES))
    counts["concepts_by_semantic_type"] = {f"{tui} {NAMES.get(tui, '')}".strip(): n for tui, n in counts["concepts_by_semantic_type"].items()}
    grid = Table.grid(padding=(0, 2))
    for key, value in counts.items():
        text = ", ".join(f"{k} {n:,}" for k, n in sorted(value.items(), key=lambda item: -item[1])) if isinstance(value, dict) else f"{value:,}"
        grid.add_row(key.replace("_", " "), text)
    console.print(grid)
