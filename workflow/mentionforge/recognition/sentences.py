"""Documents as sentences of words, and training sentences with IOB2 tags.

In: text, sentence boundaries and mentions in characters. Out: words, sentences and mentions as word spans.
Every word belongs to exactly one sentence: the last one that begins at or before it. So sentence boundaries may fall inside a
word, and no word is lost. Only `training_examples` reads gold mentions. Knows nothing of models.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentionforge import text as units
from mentionforge.gold import Discontinuous, flatten, tags
from mentionforge.text import Span

NO_LOSS = ""
"""Tag of a training word that carries no loss."""


@dataclass(frozen=True)
class TokenizedDocument:
    """A text with its words (character spans) and its sentences (word spans, which follow each other without gaps)."""

    doc_id: str
    text: str
    words: list[Span]
    sentences: list[Span]

    def tokens(self, sentence: Span) -> list[str]:
        """The words of a sentence as strings, in the form of `text.view` that names are matched with and models read."""
        return [units.plain(self.text[start:end]) for start, end in self.words[slice(*sentence)]]


@dataclass(frozen=True)
class Example:
    """A training sentence: its words and one tag per word, or `NO_LOSS`."""

    words: list[str]
    tags: list[str]


def tokenized_document(doc_id: str, text: str, sentences: Iterable[Mapping[str, int]]) -> TokenizedDocument:
    """A document from a row of the `documents` or `located` table."""
    words = units.words(text)
    starts = [start for start, _ in words]
    # Words before the first sentence join it; a boundary inside a word moves behind that word.
    bounds = sorted({bisect.bisect_left(starts, s["start"]) for s in sentences} | {0, len(words)})
    return TokenizedDocument(doc_id, text, words, list(itertools.pairwise(bounds)))


def training_examples(
    documents: Sequence[TokenizedDocument],
    mentions: Mapping[str, Sequence[Sequence[Span]]],
    policy: Discontinuous,
    more: Mapping[str, Sequence[Span]] | None = None,
    doubtful: Mapping[str, Collection[int]] | None = None,
) -> tuple[list[Example], Counter[str]]:
    """Sentences with IOB2 tags for training. Sentences whose boundary cuts a mention are joined; prediction keeps them apart.

    Args:
        documents: The texts.
        mentions: By document, the character spans of each mention.
        policy: What happens to discontinuous mentions.
        more: By document, word spans that are labelled as mentions too, unless they share a word with one of `mentions`.
        doubtful: By document, words that carry no loss unless they are in a mention. If given, sentences without a mention
            are left out.

    Returns:
        The examples, in document order, and the counts of `flatten` together with these: `documents`, `sentences` (after joining),
        `joined` (sentence boundaries removed), `relabelled` (mentions from `more`), `masked` (words without loss) and
        `masked_sentences` (sentences left out).
    """
    examples: list[Example] = []
    counts: Counter[str] = Counter(documents=len(documents))
    for doc in documents:
        flat = flatten(doc.words, mentions.get(doc.doc_id, ()), policy)
        counts += flat.counts
        taken = {i for span in flat.spans for i in range(*span)}
        added = [span for span in (more or {}).get(doc.doc_id, ()) if taken.isdisjoint(range(*span))]
        counts["relabelled"] += len(added)
        spans = [*flat.spans, *added]
        labels = tags(len(doc.words), spans)
        inside = {i for first, last in spans for i in range(first + 1, last)}
        bounds = [0] + [last for _, last in doc.sentences if last not in inside]
        counts["joined"] += len(doc.sentences) + 1 - len(bounds)
        for sentence in itertools.pairwise(bounds):
            if doubtful is not None:
                if taken.isdisjoint(range(*sentence)):
                    counts["masked_sentences"] += 1
                    continue
                for i in set(range(*sentence)) & set(doubtful.get(doc.doc_id, ())) - taken:
                    labels[i] = NO_LOSS
                    counts["masked"] += 1
            examples.append(Example(doc.tokens(sentence), labels[slice(*sentence)]))
    counts["sentences"] = len(examples)
    return examples, counts


def spans_by_document(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[list[Span]]]:
    """By document, the character spans of each gold mention, from rows of the `mentions` table."""
    spans: dict[str, list[list[Span]]] = {}
    for row in rows:
        spans.setdefault(row["doc_id"], []).append([(s["start"], s["end"]) for s in row["spans"]])
    return spans
