"""The kind `dictionary`: longest match of known names, from left to right, without training.

In: names of the knowledge base or of training mentions, and documents. Out: matched mentions with score 1.
Knows nothing of concepts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mentionforge import text as units
from mentionforge.entries import UNTRAINED, Entry, IndexSource
from mentionforge.errors import UserError
from mentionforge.gold import flatten
from mentionforge.recognition.kinds.contract import Untrained
from mentionforge.recognition.sentences import TokenizedDocument, spans_by_document, tokenized_document
from mentionforge.text import Span

VERSION = 1
"""Of the part recognition.dictionary: raise it where earlier results would be wrong (mentionforge.versions)."""


class DictionaryRecognizer(Untrained, Entry):
    """A baseline without training: the longest names at word boundaries, from left to right."""

    imported: ClassVar[bool] = False
    schedule: ClassVar[str] = UNTRAINED
    part: ClassVar[str] = "recognition.dictionary"

    kind: Literal["dictionary"]
    sources: tuple[IndexSource, ...] = Field(
        ("kb",), min_length=1, description="kb: all names of the corpus' knowledge base; train: mentions of its training split."
    )
    min_length: int = Field(3, ge=1, description="Shortest name that is searched, in characters.")
    stop: tuple[str, ...] = Field(
        ("disease", "diseases", "disorder", "disorders", "syndrome", "syndromes"), description="Names that are not searched, in any case and punctuation."
    )

    def covers(self, corpus: str) -> bool:
        """It reads any corpus."""
        return True


# How names match. Names and texts are compared word by word, by their `text.view` and case-folded. Hyphens, slashes and apostrophes are
# ignored, other punctuation is not: "non-Hodgkin lymphoma" and "non Hodgkin lymphoma" match each other, "colon, cancer" and "colon cancer" do not.
# A match begins and ends at word boundaries and stays within a sentence. At each word, from left to right, the longest name wins, and the
# search continues after it.
#
# Names that look like an abbreviation match only as written, because "ALL" and "all" differ. Such a name is a single word of at most six
# characters with at least two capitals and no fewer capitals than small letters.


IGNORED_PUNCTUATION = frozenset("-‐‑–/'’")
"""Punctuation that is ignored in names and in texts."""


class Dictionary:
    """A set of names, indexed by first word, that is matched against texts."""

    def __init__(self, names: Iterable[str], min_length: int = 1, stop: Iterable[str] = ()) -> None:
        """Index `names`, except names shorter than `min_length` characters and names in `stop`."""
        stopped = {folded_words(name) for name in stop}
        self._longest: dict[str, int] = {}  # first word -> length in words of the longest name
        self._names: set[tuple[str, ...]] = set()
        self._cased: set[str] = set()
        for name in names:
            words = folded_words(name)
            if len(name.strip()) < min_length or not words or words in stopped or not any(c.isalnum() for c in name):
                continue
            if _looks_like_abbreviation(name.strip()):
                self._cased.add(units.plain(name.strip()))
                continue
            self._names.add(words)
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def __len__(self) -> int:
        """Number of indexed names."""
        return len(self._names) + len(self._cased)

    def find(self, doc: TokenizedDocument) -> list[Span]:
        """Word spans of the names that occur in a document, in order and without overlap."""
        matches: list[Span] = []
        for first, last in doc.sentences:
            texts = doc.tokens((first, last))
            counted = [i for i, word in enumerate(texts) if word not in IGNORED_PUNCTUATION]
            words = [texts[i].casefold() for i in counted]
            at = 0
            while at < len(counted):
                length = self._length(words, at) or int(texts[counted[at]] in self._cased)
                if length:
                    matches.append((first + counted[at], first + counted[at + length - 1] + 1))
                at += length or 1
        return matches

    def _length(self, words: Sequence[str], at: int) -> int:
        """Length in words of the longest name that begins at a word; 0 if none does."""
        longest = min(self._longest.get(words[at], 0), len(words) - at)
        return next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in self._names), 0)


def folded_words(name: str) -> tuple[str, ...]:
    """The case-folded words of a name, without ignored punctuation."""
    shown = units.plain(name)
    words = (shown[a:b] for a, b in units.words(shown))
    return tuple(word.casefold() for word in words if word not in IGNORED_PUNCTUATION)


def match(spec: Path, corpus: Path, corpus_spec: Path, out: Path, names: Path | None = None) -> None:
    """Match a dictionary against the dev and test documents, and write the table `recognized`, with score 1.

    Args:
        spec: Resolved settings of the recognizer.
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Resolved settings of the corpus, for its policy on discontinuous mentions.
        out: Table to write.
        names: Names of the knowledge base; required if it is among the recognizer's sources.

    Raises:
        UserError: The recognizer is no dictionary, the names of the knowledge base are missing, or no name is left to match.
    """
    from mentionforge import tables
    from mentionforge.corpora.settings import Corpus
    from mentionforge.progress import say
    from mentionforge.provenance import stamp
    from mentionforge.recognition.kinds import Recognizer
    from mentionforge.specs import read_spec

    settings = read_spec(spec, Recognizer)
    if not isinstance(settings, DictionaryRecognizer):
        raise UserError("no dictionary", str(spec), f"a recognizer of kind {settings.kind}", "use `mentionforge recognition train`")
    policy = read_spec(corpus_spec, Corpus).discontinuous
    inputs: dict[str, str | Path] = {"spec": spec, "corpus_spec": corpus_spec, "documents": corpus / "documents.parquet"}
    documents = tables.read(tables.DOCUMENTS, corpus / "documents.parquet").to_pylist()
    searched_names: list[str] = []
    if "kb" in settings.sources:
        if names is None:
            raise UserError("missing names", "command line", "the dictionary reads those of a knowledge base", "give --names")
        inputs["names"] = names
        searched_names += tables.read(tables.NAMES, names)["name"].unique().to_pylist()
    if "train" in settings.sources:
        inputs["mentions"] = corpus / "mentions.parquet"
        gold = spans_by_document(row for row in tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist() if row["split"] == "train")
        for row in documents:
            words = units.words(row["text"]) if row["doc_id"] in gold else []
            searched_names += [row["text"][words[a][0] : words[b - 1][1]] for a, b in flatten(words, gold.get(row["doc_id"], []), policy).spans]
    dictionary = Dictionary(searched_names, settings.min_length, settings.stop)
    if not len(dictionary):
        raise UserError("empty dictionary", str(spec), f"none of {len(searched_names):,} names is left", "lower min_length or shorten stop")
    rows: list[dict[str, Any]] = []
    read: Counter[str] = Counter()
    for row in documents:
        if row["split"] == "train":
            continue
        doc = tokenized_document(row["doc_id"], row["text"], row["sentences"])
        read[row["split"]] += 1
        rows += [
            {"doc_id": doc.doc_id, "start": doc.words[a][0], "end": doc.words[b - 1][1], "split": row["split"], "score": 1.0} for a, b in dictionary.find(doc)
        ]
    tables.write(tables.RECOGNIZED, out, rows, stamp("recognition match", inputs, names=len(dictionary)))
    say(f"{len(dictionary):,} names; {len(rows):,} mentions found in {read['dev']:,} dev and {read['test']:,} test documents")


def _looks_like_abbreviation(name: str) -> bool:
    capitals = sum(c.isupper() for c in name)
    return len(name) <= 6 and len(units.words(name)) == 1 and capitals >= 2 and capitals >= sum(c.islower() for c in name)
