"""Folders of notes: a text and a file of annotations of the same name for each, as ShARe and BRAT have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.documents import Tally
from mentionforge.corpora.files import BYTE_ORDER_MARK, decode
from mentionforge.errors import UserError

COUNTS_LINE_FEEDS = "texts with CRLF line ends whose offsets count them as one character"


COUNTS_CARRIAGE_RETURNS = "texts with LF line ends whose offsets count them as two characters"


def counts_line_feeds(where: str, shorter: bool = True) -> UserError:
    """The error of a note with CRLF line ends whose offsets count each as one character, or (not `shorter`) with LF and offsets that count two."""
    why = f"the text has {'CRLF' if shorter else 'LF'} line ends, and mentions fall on words only if each counts as {'one' if shorter else 'two'} character"
    why += "" if shorter else "s"
    return UserError("offsets count other line ends", where, why, "set `text: crlf_to_lf` (--text crlf_to_lf), or convert the text's line ends")


def paired(folder: Path, texts: tuple[str, ...], annotations: str, tally: Tally, ignored: Collection[str] = ()) -> Iterator[tuple[str, str, Path, Path]]:
    """Name, text, file of the text and file of the annotations of each note, in the order of the names; texts are kept to the last character.

    Args:
        folder: Holds both files of each note; hidden files are left out.
        texts: Suffixes that a text may have.
        annotations: Suffix of the annotations; .txt may follow it.
        tally: Where to count.
        ignored: Names of further files that may be there; they are counted.

    Raises:
        UserError: No such folder, a text without annotations or the reverse, a file of another kind, a text that is not UTF-8 or begins
            with a byte order mark.
    """
    kinds = " or ".join(texts)
    if not folder.is_dir():
        raise UserError(
            "missing folder", str(folder), f"this reader takes folders with {kinds} and {annotations} files", "correct the path under splits, or the reader"
        )
    found: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.name in ignored:
            tally.handled[f"files {path.name}"] += 1
            continue
        longer = f"{annotations}.txt"  # as in ShARe/CLEF 2013
        suffix = longer if path.name.endswith(longer) else path.suffix
        if suffix not in (*texts, annotations, longer) or not path.is_file():
            raise UserError("unknown file", str(path), f"a note is a {kinds} and a {annotations} file", "move it elsewhere")
        kind, stem = found if suffix in texts else others, path.name.removesuffix(suffix)
        if stem in kind:
            raise UserError("note given twice", str(path), f"{kind[stem].name} is there too", "remove one of them")
        kind[stem] = path
    for doc_id in sorted(found.keys() ^ others.keys()):
        path, missing = (found[doc_id], f"no {annotations} file") if doc_id in found else (others[doc_id], f"no {kinds} file")
        raise UserError("incomplete note", str(path), f"{missing} of the same name", f"add it (a note without mentions has an empty {annotations} file)")
    for doc_id, path in sorted(found.items()):
        text = decode(path)
        if text.startswith(BYTE_ORDER_MARK):
            raise UserError("byte order mark", f"{path}:1", "offsets may or may not count it", "find out which, then remove it")
        if "\r\n" in text:
            tally.handled["texts with CRLF line ends"] += 1
        yield doc_id, text, path, others[doc_id]
