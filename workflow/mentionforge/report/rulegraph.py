"""The picture of the rule graph in the README, made from Snakemake's own rule graph."""

from __future__ import annotations

import re
from pathlib import Path

import networkx as nx

from mentionforge.errors import UserError

BEGIN, END = "<!-- rule graph: begin -->", "<!-- rule graph: end -->"
HIDDEN = {"all", "spec"}
"""Left out of the picture: the target, and the settings files that every job reads."""


def picture(mermaid: str, rules: Path) -> str:
    """A readable Mermaid flowchart of a rule graph: transitive edges removed, rules grouped by the file that holds them.

    Args:
        mermaid: Output of `snakemake --rulegraph mermaid-js`.
        rules: Folder of the .smk files.
    """
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", mermaid, re.M))
    edges = [(names[a], names[b]) for a, b in re.findall(r"^\s*(id\d+) --> (id\d+)", mermaid, re.M)]
    graph = nx.DiGraph((a, b) for a, b in edges if not {a, b} & HIDDEN)
    lines = ["flowchart LR"]
    for file in sorted(rules.glob("*.smk")):
        inside = sorted(set(re.findall(r"^rule (\w+):", file.read_text(encoding="utf-8"), re.M)) & set(graph))
        if inside:
            lines += [f"    subgraph {file.stem}", *(f"        {rule}" for rule in inside), "    end"]
    lines += [f"    {a} --> {b}" for a, b in sorted(nx.transitive_reduction(graph).edges)]
    return "\n".join(lines)


def put_into(readme: Path, text: str) -> None:
    """Replace what stands between the two marks of the README by the picture.

    Raises:
        UserError: The marks are not there.
    """
    content = readme.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        raise UserError("no place for the rule graph", str(readme), f"{BEGIN} and {END} are not there", "add the two lines")
    head, rest = content.split(BEGIN, 1)
    readme.write_text(f"{head}{BEGIN}\n```mermaid\n{text}\n```\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
