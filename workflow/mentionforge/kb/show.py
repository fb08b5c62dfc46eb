"""What a knowledge base holds, for people: the card of a concept, and the counts."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.kb.extract import summary
from mentionforge.text import normalize_surface


def find(query: str, kb: Path) -> list[str]:
    """CUIs that a CUI (also a retired one) or a name stands for; case and punctuation of a name do not matter.

    Raises:
        UserError: Nothing is found; the message lists names that look alike.
    """
    import pyarrow.compute as pc
    from rapidfuzz import fuzz, process

    concepts, xrefs, names = (tables.read(t, kb / f"{t.name}.parquet") for t in (tables.CONCEPTS, tables.XREFS, tables.NAMES))
    wanted = query.strip().upper()
    retired = xrefs.filter((pc.field("source") == "RETIRED") & (pc.field("code") == wanted))
    found = set(concepts.filter(pc.field("cui") == wanted)["cui"].to_pylist()) or set(retired["cui"].to_pylist())
    if not found:
        bearers: dict[str, set[str]] = defaultdict(set)
        for cui, name in zip(names["cui"].to_pylist(), names["name"].to_pylist(), strict=True):
            bearers[normalize_surface(name)].add(cui)
        surface = normalize_surface(query)
        found = bearers.get(surface, set())
        if not found:
            near = process.extract(surface, sorted(bearers), scorer=fuzz.ratio, limit=5, score_cutoff=60)
            listed = "; ".join(f"{name} ({', '.join(sorted(bearers[name])[:3])})" for name, _, _ in near)
            raise UserError("unknown concept", str(kb), f"nothing is called {query!r}", f"near names: {listed}" if listed else "give a CUI or a name")
    return sorted(found)


def cards(cuis: list[str], kb: Path) -> list[dict[str, Any]]:
    """All that the tables hold about each concept: its row of concepts, its names and its cross-references."""
    import pyarrow.compute as pc

    rows = [tables.read(t, kb / f"{t.name}.parquet").filter(pc.field("cui").isin(cuis)).to_pylist() for t in (tables.CONCEPTS, tables.NAMES, tables.XREFS)]
    concepts, names, xrefs = rows
    return [{**c, "names": [n for n in names if n["cui"] == c["cui"]], "xrefs": [x for x in xrefs if x["cui"] == c["cui"]]} for c in concepts]


def show(query: str, kb: Path, console: Console | None = None) -> None:
    """Print the cards of the concepts that a CUI or a name stands for."""
    console = console or Console(highlight=False)
    for card in cards(find(query, kb), kb):
        sources: dict[str, list[str]] = defaultdict(list)
        for name in card["names"]:
            sources[name["name"]].append(f"{name['source']} {name['term_type']}")
        body = Table.grid(padding=(0, 2))
        body.add_row("types", " ".join(card["semantic_types"]))
        body.add_row("definition", card["definition"] or "none")
        codes = " ".join(f"{x['source']}:{x['code']}" for x in card["xrefs"])
        body.add_row("codes", codes or "none")
        for i, (name, where) in enumerate(sorted(sources.items(), key=lambda item: (item[0] != card["preferred_name"], item[0].casefold(), item[0]))):
            body.add_row("" if i else "names", f"{name}  ({', '.join(where)})")
        console.print(Panel(body, title=f"{card['cui']}  {card['preferred_name']}", title_align="left"), markup=False)


def stats(kb: Path, console: Console | None = None) -> None:
    """Print the counts of a knowledge base."""
    console = console or Console(highlight=False)
    counts = summary(*(tables.read(t, kb / f"{t.name}.parquet") for t in (tables.CONCEPTS, tables.NAMES, tables.XREFS)))
    grid = Table.grid(padding=(0, 2))
    for key, value in counts.items():
        text = ", ".join(f"{k} {n:,}" for k, n in sorted(value.items())) if isinstance(value, dict) else f"{value:,}"
        grid.add_row(key.replace("_", " "), text)
    console.print(grid)
