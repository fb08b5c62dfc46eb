"""Recognizers as annotation uses them: a trained tagger, or a dictionary.

In: documents as sentences of words. Out: mentions as word spans, with scores. A tagger reads each distinct sentence once: clinical notes repeat many.
Knows nothing of concepts and files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mentionforge.recognition.sentences import TokenizedDocument
from mentionforge.text import Span

KNOWN_SENTENCES = 100_000
"""Distinct sentences that are remembered within a call of `Annotator.annotate`; some 400 bytes each."""


class Recognizer(Protocol):
    """Interface of a recognizer: finds mentions in documents."""

    def recognize(self, documents: Sequence[TokenizedDocument]) -> Mapping[str, Sequence[tuple[Span, float]]]:
        """(word span, score) of the mentions of each document, ascending, by document id."""

    def forget(self) -> None:
        """Forget the sentences read so far, so that the next texts do not depend on them, not even by rounding."""


class SentenceReader(Protocol):
    """Interface of a tagger."""

    def probabilities(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Tag probabilities of each word, one [words, 3] array per sentence."""


class DistinctSentences:
    """A trained tagger, which is given each distinct sentence once."""

    def __init__(self, tagger: SentenceReader) -> None:
        self.tagger = tagger
        self._known: dict[str, list[tuple[Span, float]]] = {}

    def recognize(self, documents: Sequence[TokenizedDocument]) -> dict[str, list[tuple[Span, float]]]:
        """See `Recognizer.recognize`."""
        from mentionforge.recognition.tagger import decode_tags

        if len(self._known) > KNOWN_SENTENCES:
            self.forget()
        keys: list[list[str]] = []
        new: dict[str, list[str]] = {}
        for doc in documents:
            keys.append([])
            for sentence in doc.sentences:
                words = doc.tokens(sentence)
                key = " ".join(words)  # words hold no blank
                keys[-1].append(key)
                if key not in self._known and key not in new:
                    new[key] = words
        for key, probabilities in zip(new, self.tagger.probabilities(list(new.values())), strict=True):
            self._known[key] = [(span, score) for span, score in decode_tags(probabilities)]
        return {
            doc.doc_id: [((first + a, first + b), score) for (first, _), key in zip(doc.sentences, keys_of, strict=True) for (a, b), score in self._known[key]]
            for doc, keys_of in zip(documents, keys, strict=True)
        }

    def forget(self) -> None:
        """See `Recognizer.forget`."""
        self._known.clear()


class DictionaryMatches:
    """A dictionary with the interface of a recognizer."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from mentionforge.recognition.kinds.dictionary import Dictionary

        self.dictionary = Dictionary(settings["names"], settings["min_length"], settings["stop"])

    def recognize(self, documents: Sequence[TokenizedDocument]) -> dict[str, list[tuple[Span, float]]]:
        """See `Recognizer.recognize`."""
        return {doc.doc_id: [(span, 1.0) for span in self.dictionary.find(doc)] for doc in documents}

    def forget(self) -> None:
        """Nothing is remembered."""
