"""All formats, in the order of the configuration schema; and `write`, which writes documents in one of them.

In: name of a format. Out: its reader, its writer, its endings and prefixes. Knows nothing of what a format looks like.
A new format: a module beside this one, and its entry in `FORMATS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mentionforge.corpora.documents import Document
from mentionforge.corpora.formats import bioc, brat, conll, medmentions, pubtator, records, share
from mentionforge.corpora.formats.contract import Format, Reader, Writer
from mentionforge.corpora.formats.losses import DROPPED, DUPLICATE_DOCUMENTS, Losses, Policy, WriteReport
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
"""Suffix of the files that `export` writes, by format; empty for brat, which is a folder."""

ID_PREFIXES: Mapping[str, str] = {form.name: form.id_prefix for form in FORMATS}
"""Default vocabulary of ids without a prefix in `convert`, by format."""

CONFIG_PREFIXES: Mapping[str, str] = {form.name: form.id_prefix for form in FORMATS if not form.convert_only}
"""The same in the configuration."""


def write(documents: Iterable[Document], form: str, out: Path, policy: Policy = "error") -> WriteReport:
    """Write documents one by one.

    Args:
        documents: Documents of any reader, with sorted annotations and spans.
        form: One of `WRITERS`.
        out: File, or folder for brat; a name that ends in .gz is compressed (not parquet, not brat).
        policy: What to do about content that the format cannot represent.

    Raises:
        UserError: `out` is not empty (brat), a document id cannot be a file name or a column, or there is a loss and the policy is `error`.
    """
    if form not in WRITERS:
        raise UserError("unknown format", form, "", f"one of {', '.join(sorted(WRITERS))}")
    losses = Losses(policy)
    counts: Counter[str] = Counter()

    def counting() -> Iterator[Document]:
        for document in documents:
            counts["documents"] += 1
            counts["mentions"] += len(document.annotations)
            yield document

    out.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[form](counting(), out, losses)
    dropped = sum(n for kind, n in losses.counts.items() if kind.startswith(DROPPED))
    return WriteReport(counts["documents"] - losses.counts[DUPLICATE_DOCUMENTS], counts["mentions"] - dropped, dict(losses.counts))
