"""Whether tables for LaTeX are sound: a check of their syntax, and pdflatex where it is at hand."""

import re
import subprocess
from pathlib import Path


def faults(text: str) -> list[str]:
    """What LaTeX would stumble over: braces and environments that do not pair, bare special characters, rows of another width than their table."""
    found = []
    bare = re.sub(r"\\[&%$#_{}]", "", re.sub(r"(?<!\\)%[^\n]*", "", text))
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            break
    found += ["braces"] if depth else []
    found += ["environments"] if re.findall(r"\\begin\{(\w+)\}", text) != re.findall(r"\\end\{(\w+)\}", text)[::-1] else []
    body = re.search(r"\\begin\{tabular\}\{(\w+)\}(.*)\\end\{tabular\}", text, re.S)
    assert body is not None
    for line in body[2].splitlines():
        if line.endswith(r"\\"):
            found += [f"columns: {line}"] if len(re.findall(r"(?<!\\)&", line)) + 1 != len(body[1]) else []
    plain = re.sub(r"\\[a-z]+(?:\{[^{}]*\})?|\$[^$]*\$", "", re.sub(r"\\[&%$#_{}]", "", text))
    found += [f"character {c}" for c in "#_~^$<>†±–…" if c in plain]
    return found


def compile_latex(text: str, folder: Path) -> None:
    """Set tables with pdflatex, and let no character be missing."""
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx,textcomp}\n\\begin{document}\n"
    (folder / "tables.tex").write_text(head + text + "\n\\end{document}\n", encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (folder / "tables.log").read_text(errors="replace")
