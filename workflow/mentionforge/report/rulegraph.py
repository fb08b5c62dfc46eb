"""The flowchart of the rules in workflow/README.md.

In: Snakemake's rule graph as Mermaid, and the folder of the rules. Out: a shorter Mermaid flowchart. Knows nothing of what the rules do.
"""

from __future__ import annotations

import re
from pathlib import Path

import networkx as nx

from mentionforge.errors import UserError
from mentionforge.needs import SEVERAL

BEGIN, END = "<!-- rule graph: begin -->", "<!-- rule graph: end -->"
HIDDEN = {"all", "spec"}
"""Rules left out of the flowchart: the target, and the spec files that every job reads."""


def flowchart(mermaid: str, rules: Path) -> str:
    """A readable Mermaid flowchart of a rule graph: transitive edges removed, rules grouped by the file that holds them, several indexes as one.

    Args:
        mermaid: Output of `snakemake --rulegraph mermaid-js`.
        rules: Folder of the .smk files.
    """
    names = {node: rule.partition(SEVERAL)[0] for node, rule in re.findall(r"^\s*(id\d+)\[(\w+)\]", mermaid, re.M)}
    edges = [(names[a], names[b]) for a, b in re.findall(r"^\s*(id\d+) --> (id\d+)", mermaid, re.M)]
    graph = nx.DiGraph((a, b) for a, b in edges if not {a, b} & HIDDEN)
    lines = ["flowchart LR"]
    for file in sorted(rules.glob("*.smk")):
        named = re.findall(r'^rule (\w+):|^        name:\n +f"(\w+)\{', file.read_text(encoding="utf-8"), re.M)
        inside = sorted({name for pair in named for name in pair} & set(graph))
        if inside:
            lines += [f"    subgraph {file.stem}", *(f"        {rule}" for rule in inside), "    end"]
    lines += [f"    {a} --> {b}" for a, b in sorted(nx.transitive_reduction(graph).edges)]
    return "\n".join(lines)


def insert_flowchart(page: Path, text: str) -> None:
    """Replace the text between the two marks of a page by the flowchart.

    Raises:
        UserError: The marks are not there.
    """
    content = page.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        raise UserError("no place for the rule graph", str(page), f"{BEGIN} and {END} are not there", "add the two lines")
    head, tail = content.split(BEGIN, 1)
    page.write_text(f"{head}{BEGIN}\n```mermaid\n{text}\n```\n{END}{tail.split(END, 1)[1]}", encoding="utf-8")
