"""The format `html`: a page per document with its mentions marked, and index.html.

In: annotated documents. Out: files of this format. Knows nothing of models.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from mentionforge.annotate.writers.contract import AnnotationFormat, Losses, Record, codes_as_text, renamed_when_complete, with_paths

STYLE = """:root{color-scheme:light dark;--ink:#22272b;--soft:#5d666e;--rule:#d9dde0;--paper:#fcfcfa;--mark:#f6e3b4;--none:#dfe3e6}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e7;--soft:#9aa4ac;--rule:#363d43;--paper:#15191c;--mark:#5a4a1c;--none:#3b434a}}
body{font:16px/1.6 "Helvetica Neue",Helvetica,Arial,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1.5rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;font-weight:600;overflow-wrap:anywhere}a{color:inherit}.text{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75}
mark{background:var(--mark);color:inherit;border-radius:3px;padding:.1em .2em}mark.nil{background:var(--none)}mark small{color:var(--soft);font-size:.7em}
mark.negated,mark.family,mark.hypothetical{background:none;box-shadow:inset 0 0 0 1.5px var(--mark);text-decoration:underline dashed}
table{border-collapse:collapse;font-size:.85rem;margin-top:1.5rem;font-variant-numeric:tabular-nums}
td,th{border-bottom:1px solid var(--rule);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}"""


class HtmlAnnotations(AnnotationFormat):
    """Pages to read."""

    name = "html"
    output = "html"

    def write(self, records: Iterable[Record], out: Path) -> Losses:
        """Write the folder; nothing is lost."""
        with renamed_when_complete(out) as folder:
            folder.mkdir()
            with open(folder / "index.html", "w", encoding="utf-8") as index:
                index.write(_html("Annotated documents", "<ol>").removesuffix("</html>\n"))
                for r, relative in with_paths(records, ".html"):
                    path = folder / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(page(r), encoding="utf-8", newline="")
                    address = "/".join(map(quote, relative.split("/")))
                    index.write(f'<li><a href="{address}">{html.escape(r["doc_id"])}</a>: {len(r["mentions"]):,} mentions</li>\n')
                index.write("</ol></html>\n")
        return {}


def page(r: Record) -> str:
    """A document as an HTML page: its text with mentions marked, and a table of the mentions."""
    text, at, pieces = r["text"], 0, []
    for m in r["mentions"]:
        [span] = m["spans"]
        first = m["concepts"][0] if m["concepts"] and not m["nil"] else None
        title = f"{first['cui']} {first['name']} {first['score']:.3f}" if first else "no concept"
        classes = " ".join(["nil"] * m["nil"] + list(m["context"]))
        pieces += [html.escape(text[at : span["start"]]), f'<mark class="{classes}" title="{html.escape(title)}">{html.escape(m["surface"])}']
        pieces.append(f"<small> {html.escape(first['cui'])}</small></mark>" if first else "</mark>")
        at = span["end"]
    pieces.append(html.escape(text[at:]))
    rows = "".join(map(_row, r["mentions"]))
    head = "<tr><th>place<th>mention<th>score<th>concepts<th>remarks</tr>"
    return _html(r["doc_id"], f'<div class="text">{"".join(pieces)}</div><table>{head}{rows}</table>')


def _row(m: Record) -> str:
    [span] = m["spans"]
    codes = f"<br>{html.escape(codes_as_text(m))}" if codes_as_text(m) else ""
    concepts = "<br>".join(html.escape(f"{c['cui']} {c['name']} ({', '.join(c['semantic_types'])}) {c['score']:.3f}") for c in m["concepts"])
    remarks = [f"read as {m['expanded']}"] * bool(m["expanded"]) + ["ambiguous"] * m["ambiguous"] + ["no concept"] * m["nil"] + list(m["context"])
    return f"<tr><td>{span['start']}-{span['end']}<td>{html.escape(m['surface'])}<td>{m['score']:.3f}<td>{concepts}{codes}<td>{html.escape(', '.join(remarks))}</tr>"


def _html(title: str, body: str) -> str:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"{head}<h1>{html.escape(title)}</h1>{body}</html>\n"
