"""All formats, in the order of the configuration's schema, and the writing of documents in one of them.

A new format is a file beside this one, and a line in `FORMATS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mentionforge.corpora.documents import Document
from mentionforge.corpora.formats import bioc, brat, conll, medmentions, pubtator, records, share
from mentionforge.corpora.formats.contract import Format, Reader, Writer
from mentionforge.corpora.formats.losses import DROPPED, TWICE, Losses, Policy, Written
from mentionforge.errors import UserError

FORMATS: tuple[Format, ...] = (
    pubtator.FORMAT,
    medmentions.FORMAT,
    bioc.FORMAT,
    share.FORMAT,
    brat.FORMAT,
    conll.FORMAT,
    records.JSONL,
    records.PARQUET,
)

READERS: Mapping[str, Reader] = {form.name: form.read for form in FORMATS}

WRITERS: Mapping[str, Writer] = {form.name: form.write for form in FORMATS if form.write}

ENDINGS: Mapping[str, str] = {form.name: form.ending for form in FORMATS if form.write}
"""What a file of each format is called by `export`; brat's is a folder."""

ID_PREFIXES: Mapping[str, str] = {form.name: form.id_prefix for form in FORMATS}
"""Vocabulary of ids without a prefix in each format, where `convert` is told none."""


def write(documents: Iterable[Document], form: str, out: Path, policy: Policy = "error") -> Written:
    """Write documents one by one.

    Args:
        documents: Read by any reader; offsets and pieces in order.
        form: One of `WRITERS`.
        out: File, or folder for brat; one that ends in .gz is compressed (not parquet, not brat).
        policy: What to do about what the format cannot hold.

    Raises:
        UserError: `out` is there already (brat), an id that cannot be a name or a field, or a loss with the policy `error`.
    """
    if form not in WRITERS:
        raise UserError("unknown format", form, "", f"one of {', '.join(sorted(WRITERS))}")
    losses = Losses(policy)
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Document]:
        for document in documents:
            counts["documents"] += 1
            counts["mentions"] += len(document.annotations)
            yield document

    out.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[form](counted(), out, losses)
    lost = sum(n for kind, n in losses.counts.items() if kind.startswith(DROPPED))
    return Written(counts["documents"] - losses.counts[TWICE], counts["mentions"] - lost, dict(losses.counts))
