"""The documents of a corpus, split by split, whatever its format: the one door between the readers and the rest of the stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mentionforge import splitting
from mentionforge.corpora.documents import Document, Options, Reading, Tally
from mentionforge.corpora.formats.registry import READERS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.texts import normalized
from mentionforge.errors import UserError

_NO_SPLIT = "documents of no split"


def stream(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    """The documents of a split one by one, in the order of its files.

    With `source` each split is a pass over it. Documents that no list names are counted with the first split, and their mentions.

    Args:
        settings: The corpus.
        split: One of its splits.
        tally: Where to count what is skipped, handled and repaired in documents of this split.

    Raises:
        UserError: Whatever the reader raises; a list that names a document twice, or one that is not there.
    """
    documents = _by_files(settings, split, tally) if not settings.source else _by_document(settings, split, tally)
    return (normalized(document, settings.text, tally) for document in documents)


def read(settings: Corpus, split: str) -> Reading:
    """All documents of a split; see `stream`."""
    reading = Reading()
    reading.documents.extend(stream(settings, split, reading))
    return reading


def _by_files(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    for path in settings.splits[split]:  # type: ignore[index]
        yield from READERS[settings.reader](Path(path), settings.id_prefix, settings.entity_types, tally, _options(settings))


def _options(settings: Corpus) -> Options:
    return Options(settings.text, settings.note_ids)


def _by_document(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    """Those documents of the source that belong to the split; what was counted while reading another one is counted there."""
    listed = splitting.read_lists({name: [Path(path) for path in paths] for name, paths in settings.splits.items()})
    own = {doc_id for doc_id, (name, _) in listed.items() if name == split}
    split_of = _split_of(settings, listed)
    first = split == settings.split_names[0]
    for path in settings.source:
        counted = Tally()
        for document in READERS[settings.reader](Path(path), settings.id_prefix, settings.entity_types, counted, _options(settings)):
            belongs = split_of(document.doc_id)
            own.discard(splitting.normalized(document.doc_id))
            if belongs == split or (first and not belongs):
                tally.add(counted)
            if first and not belongs:
                tally.skip(_NO_SPLIT, document.where)
                if document.annotations:
                    tally.skip(f"mentions of {_NO_SPLIT}", document.where, len(document.annotations))
            counted.clear()
            if belongs == split:
                yield document
        tally.add(counted)
    if own:
        doc_id = min(own)
        why = f"{doc_id} is not in the source" + (f", nor are {len(own) - 1} more" if len(own) > 1 else "")
        raise UserError("listed document missing", listed[doc_id][1], why, "correct the list or the source")


def _split_of(settings: Corpus, listed: Mapping[str, tuple[str, str]]) -> Callable[[str], str]:
    """The split of a document by its id; empty for none."""
    seeded = settings.seeded_split
    if seeded is None:
        return lambda doc_id: listed.get(splitting.normalized(doc_id), ("", ""))[0]
    shares: dict[str, float] = {split: seeded.shares[split] for split in settings.split_names}
    return lambda doc_id: splitting.by_seed(doc_id, seeded.seed, shares)
