"""Read the documents of a corpus, split by split, in any format.

In: the settings of a corpus, and a split. Out: its documents, with the text policy applied, and a tally. Knows nothing of any one format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mentionforge import splitting
from mentionforge.corpora.documents import Document, ReaderOptions, ReadResult, Tally
from mentionforge.corpora.formats.registry import READERS
from mentionforge.corpora.settings import Corpus
from mentionforge.corpora.texts import normalized
from mentionforge.errors import UserError

_NO_SPLIT = "documents of no split"


def stream(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    """Yield the documents of a split, in the order of its files.

    With `source`, each split is one pass over it. Documents of no split, and their mentions, are counted with the first split.

    Args:
        settings: The corpus.
        split: One of its splits.
        tally: Counts of what is skipped, handled and repaired in the documents of the split; updated in place.

    Raises:
        UserError: Any error of the reader; a list names a document twice, or one that is not in the source.
    """
    documents = _by_files(settings, split, tally) if not settings.source else _by_document(settings, split, tally)
    return (normalized(document, settings.text, tally) for document in documents)


def read(settings: Corpus, split: str) -> ReadResult:
    """All documents of a split; see `stream`."""
    result = ReadResult()
    result.documents.extend(stream(settings, split, result))
    return result


def _by_files(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    for path in settings.splits[split]:  # type: ignore[index]
        yield from READERS[settings.reader](Path(path), settings.id_prefix, settings.entity_types, tally, _options(settings))


def _options(settings: Corpus) -> ReaderOptions:
    return ReaderOptions(settings.text, settings.note_ids)


def _by_document(settings: Corpus, split: str, tally: Tally) -> Iterator[Document]:
    """Documents of the source that belong to the split. Counts of documents of other splits are left to the passes of those splits."""
    split_list = splitting.read_lists({name: [Path(path) for path in paths] for name, paths in settings.splits.items()})
    missing = {doc_id for doc_id, (name, _) in split_list.items() if name == split}
    split_of = _split_of(settings, split_list)
    first = split == settings.split_names[0]
    for path in settings.source:
        counts = Tally()
        for document in READERS[settings.reader](Path(path), settings.id_prefix, settings.entity_types, counts, _options(settings)):
            document_split = split_of(document.doc_id)
            missing.discard(splitting.normalized(document.doc_id))
            if document_split == split or (first and not document_split):
                tally.add(counts)
            if first and not document_split:
                tally.skip(_NO_SPLIT, document.where)
                if document.annotations:
                    tally.skip(f"mentions of {_NO_SPLIT}", document.where, len(document.annotations))
            counts.clear()
            if document_split == split:
                yield document
        tally.add(counts)
    if missing:
        doc_id = min(missing)
        why = f"{doc_id} is not in the source" + (f", nor are {len(missing) - 1} more" if len(missing) > 1 else "")
        raise UserError("listed document missing", split_list[doc_id][1], why, "correct the list or the source")


def _split_of(settings: Corpus, listed: Mapping[str, tuple[str, str]]) -> Callable[[str], str]:
    """Function from a document id to its split; empty for no split."""
    seeded = settings.seeded_split
    if seeded is None:
        return lambda doc_id: listed.get(splitting.normalized(doc_id), ("", ""))[0]
    shares: dict[str, float] = {split: seeded.shares[split] for split in settings.split_names}
    return lambda doc_id: splitting.by_seed(doc_id, seeded.seed, shares)
