"""Repeated sentences: read once, with the results of reading each; forgotten between calls. And the option --int8."""

import dataclasses

import numpy as np
import pytest

import annotating
from annotating import CELL, TESTS
from mentionforge import text as units
from mentionforge.annotate import cells, recognizers
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.recognizers import DistinctSentences
from mentionforge.errors import UserError
from mentionforge.recognition.sentences import tokenized_document

TEXTS = ["Gout is seen. No gout.\n\nGout is seen.", "Gout is seen. Huntington disease came back.", "Huntington disease came back."]


class Reader:
    """Calls every word with a capital letter a mention of its own, and the word `disease` after one a part of it; counts what it reads."""

    def __init__(self):
        self.sentences = []

    def probabilities(self, sentences):
        self.sentences += [list(s) for s in sentences]
        tags = [[1 if w[0].isupper() else 2 if w == "disease" else 0 for w in s] for s in sentences]
        return [np.eye(3, dtype=np.float32)[t] * 0.8 + 0.1 for t in tags]


def documents(texts):
    spans = units.sentences(texts)
    return [tokenized_document(str(i), t, [{"start": a, "end": b} for a, b in s]) for i, (t, s) in enumerate(zip(texts, spans, strict=True))]


def surfaces(found, docs):
    return [[doc.text[doc.words[a][0] : doc.words[b - 1][1]] for (a, b), _ in found[doc.doc_id]] for doc in docs]


EXPECTED = [["Gout", "No", "Gout"], ["Gout", "Huntington disease"], ["Huntington disease"]]


def test_a_sentence_is_read_once_and_found_wherever_it_stands():
    reader, docs = Reader(), documents(TEXTS)
    recognizer = DistinctSentences(reader)
    assert surfaces(recognizer.recognize(docs), docs) == EXPECTED
    assert len(reader.sentences) == 3
    assert surfaces(recognizer.recognize(docs[1:]), docs[1:]) == EXPECTED[1:]
    assert len(reader.sentences) == 3
    recognizer.forget()
    assert surfaces(recognizer.recognize(docs), docs) == EXPECTED
    assert len(reader.sentences) == 6


def test_sentences_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(recognizers, "KNOWN_SENTENCES", 2)
    recognizer = DistinctSentences(Reader())
    for docs in (documents(TEXTS), documents([f"Gout {i}." for i in range(3)]), documents(TEXTS)):
        found = recognizer.recognize(docs)
        assert len(recognizer._known) <= 3
    assert surfaces(found, docs) == EXPECTED


def test_each_call_begins_anew(tmp_path):
    """So a run that was killed ends with the same bytes: texts depend on those of their call alone."""
    annotator = Annotator(cells.find(annotating.make(tmp_path) / CELL, linker="exact/train+kb"))
    reader = Reader()
    annotator.recognizer = DistinctSentences(reader)
    first = list(annotator.annotate(TEXTS, batch_characters=10))
    assert len(reader.sentences) == 3, "batches of a call share what was read"
    assert list(annotator.annotate(TEXTS)) == first and len(reader.sentences) == 6


def test_int8_needs_a_trained_recognizer(tmp_path):
    materials = cells.find(annotating.make(tmp_path) / CELL, linker="exact/train+kb")
    with pytest.raises(UserError, match="nothing to compute"):
        Annotator(materials, int8=True)
    from mentionforge.recognition.int8 import Int8Linear

    trained = dataclasses.replace(materials, recognizer=annotating.untrained(tmp_path), dictionary=None)
    annotator = Annotator(trained, int8=True)
    assert any(isinstance(layer, Int8Linear) for layer in annotator.recognizer.tagger.model.modules())
    assert len(list(annotator.annotate(TESTS))) == len(TESTS)
