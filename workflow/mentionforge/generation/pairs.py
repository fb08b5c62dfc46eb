"""Makes fine-tuning pairs: a prompt that names a concept, and the sentences around a gold mention of it, with the mention in tags.

In: documents and mentions of a corpus' training split, and the knowledge base. Out: table `pairs`. A document of another split is an error. Knows nothing
about models and tokens.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers, templates
from mentionforge.generation.kinds import Generator
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.generation.prompts import asked_about
from mentionforge.generation.shipped_prompts import SHIPPED
from mentionforge.generation.templates import Asked
from mentionforge.progress import say
from mentionforge.provenance import stamp
from mentionforge.specs import read_spec
from mentionforge.text import Span, normalize_surface

VERSION = 2
"""Version of the part generation.pairs: raise it if earlier results would be wrong (mentionforge.versions)."""

Row = Mapping[str, Any]


def make_pairs(spec: Path, kb: Path, corpus: Path, out: Path) -> None:
    """Write the fine-tuning pairs of a generator.

    Args:
        spec: Spec file of the generator, step `finetune`.
        kb: Folder of the generator's knowledge base.
        corpus: Folder of the corpus' tables.
        out: Table `pairs`.

    Raises:
        UserError: The training split gives no pair.
    """
    generator: Generator = read_spec(spec, Generator)
    settings = generator.training_text
    assert settings, "the rule asks for pairs only where there is fine-tuning, or examples"
    documents = [d for d in tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist() if d["split"] == "train"]
    mentions = [m for m in tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist() if m["split"] == "train"]
    known = concepts.load(kb, {cui for m in mentions for cui in m["cuis"]})
    parents = concepts.parents(kb, set(known)) if "parents" in templates.variables(generator.asked) else {}
    counts: Counter[str] = Counter()
    rows = list(training_pairs(documents, mentions, known, settings.context_sentences, counts, generator.asked, parents))
    if not rows:
        raise UserError(
            "no fine-tuning pair",
            str(corpus / "mentions.parquet"),
            "the training split has no contiguous mention",
            "choose another finetune.corpus or examples.corpus",
        )
    if settings.max_pairs is not None and settings.max_pairs < len(rows):
        counts["left out by max_pairs"] = len(rows) - settings.max_pairs
        rows = random.Random(settings.seed).sample(rows, settings.max_pairs)
    inputs = {"spec": spec, "documents": corpus / "documents.parquet", "mentions": corpus / "mentions.parquet", **concepts.tables_of(kb)}
    tables.write(tables.PAIRS, out, rows, stamp("generation pairs", inputs, counts=dict(sorted(counts.items()))))
    say(f"{len(rows):,} pairs from {len(documents):,} training documents; " + "; ".join(f"{n:,} {reason}" for reason, n in sorted(counts.items())))


def training_pairs(
    documents: Sequence[Row],
    mentions: Sequence[Row],
    known: Mapping[str, concepts.Concept],
    context_sentences: int,
    counts: Counter[str],
    prompt: Prompt = SHIPPED["instruction"],
    parents: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """Pairs in the order of documents and mentions, without duplicates (paper, section on fine-tuning).

    Args:
        documents: Rows of `documents`, all of the training split.
        mentions: Rows of `mentions`, all of the training split.
        known: Concepts of the knowledge base.
        context_sentences: Sentences kept on either side of the mention's own.
        counts: Output: numbers of the mentions without a pair, by reason, and of the pairs without a CUI.
        prompt: What the generator asks.
        parents: Names of parents by CUI, if the prompt reads them.

    Yields:
        Rows of `pairs`. A mention of several concepts counts for the first of them that is in the knowledge base. If none is, the prompt names the
        mention's surface form.

    Raises:
        UserError: A document or mention of another split, or a mention without its document.
    """
    for row in (*documents, *mentions):
        if row["split"] != "train":
            raise UserError("leakage", row["doc_id"], f"it belongs to the {row['split']} split", "fine-tuning reads the training split only")
    by_document: defaultdict[str, list[Row]] = defaultdict(list)
    for mention in mentions:
        by_document[mention["doc_id"]].append(mention)
    orphans = sorted(set(by_document) - {d["doc_id"] for d in documents})
    if orphans:
        raise UserError("mention without document", orphans[0], "the tables do not belong together", "delete them and rerun the workflow")
    seen: set[tuple[str, str]] = set()
    for document in documents:
        topics = [(mention, _topic(mention, known)) for mention in by_document[document["doc_id"]]]
        for mention, topic in topics:
            if len(mention["spans"]) > 1:
                counts["discontiguous mentions skipped"] += 1
                continue
            window = _window(document, _span(mention), context_sentences)
            same = [_span(m) for m, t in topics if t == topic and len(m["spans"]) == 1 and window[0] <= _span(m)[0] and _span(m)[1] <= window[1]]
            completion = markers.wrap(document["text"][slice(*window)], _without_overlaps([(a - window[0], b - window[0]) for a, b in same]))
            concept = known.get(topic)
            text = templates.prompt_text(prompt, asked_about(concept, parents) if concept else Asked((mention["surface"],)))
            if (text, completion) in seen:
                counts["mentions already in the same text"] += 1
                continue
            seen.add((text, completion))
            counts["pairs without a CUI"] += concept is None
            cui = concept.cui if concept else None
            yield {"pair_id": mention["mention_id"], "doc_id": document["doc_id"], "cui": cui, "prompt": text, "completion": completion}


def _topic(mention: Row, known: Mapping[str, concepts.Concept]) -> str:
    """The concept of a pair: the mention's first CUI in the knowledge base, or its normalized surface form if there is none."""
    return next((cui for cui in mention["cuis"] if cui in known), normalize_surface(mention["surface"]))


def _span(mention: Row) -> Span:
    return mention["spans"][0]["start"], mention["spans"][0]["end"]


def _window(document: Row, span: Span, context_sentences: int) -> Span:
    """The span of the sentences that overlap a mention, with `context_sentences` more on either side."""
    sentences = [(s["start"], s["end"]) for s in document["sentences"]]
    touched = [i for i, (start, end) in enumerate(sentences) if start < span[1] and span[0] < end]
    if not touched:
        return span
    first, last = max(0, touched[0] - context_sentences), min(len(sentences) - 1, touched[-1] + context_sentences)
    return min(sentences[first][0], span[0]), max(sentences[last][1], span[1])


def _without_overlaps(spans: Sequence[Span]) -> list[Span]:
    """The spans, longest first, without those that overlap a longer one."""
    kept: list[Span] = []
    for start, end in sorted(set(spans), key=lambda s: (s[0] - s[1], s)):
        if all(end <= a or b <= start for a, b in kept):
            kept.append((start, end))
    return kept
