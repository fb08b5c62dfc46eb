"""Folders of notes as in ShARe and BRAT: a text file and an annotation file of the same name per note.

In: a folder and the suffixes of its files. Out: pairs of text and annotation file. Knows nothing of the contents of annotation files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mentionforge.corpora.documents import Tally
from mentionforge.corpora.files import BYTE_ORDER_MARK, decode
from mentionforge.errors import UserError

COUNTS_LINE_FEEDS = "texts with CRLF line ends whose offsets count them as one character"


COUNTS_CARRIAGE_RETURNS = "texts with LF line ends whose offsets count them as two characters"


def counts_line_feeds(where: str, shorter: bool = True) -> UserError:
    """The error for a note with CRLF whose offsets count each as one character, or (if not `shorter`) with LF whose offsets count each as two."""
    why = f"the text has {'CRLF' if shorter else 'LF'} line ends, and mentions fall on words only if each counts as {'one' if shorter else 'two'} character"
    why += "" if shorter else "s"
    return UserError("offsets count other line ends", where, why, "set `text: crlf_to_lf` (--text crlf_to_lf), or convert the text's line ends")


def note_pairs(folder: Path, texts: tuple[str, ...], annotations: str, tally: Tally, ignored: Collection[str] = ()) -> Iterator[tuple[str, str, Path, Path]]:
    """Yield (name, text, text file, annotation file) of each note, sorted by name. Texts keep all characters, including carriage returns.

    Args:
        folder: Folder with both files of each note; hidden files are ignored.
        texts: Suffixes of text files.
        annotations: Suffix of annotation files; .txt may follow it.
        tally: Counts of what is handled; updated in place.
        ignored: Names of further files that are allowed; they are counted.

    Raises:
        UserError: The folder is missing, a text has no annotations or the reverse, a file is of another kind, or a text is not UTF-8 or begins
            with a byte order mark.
    """
    kinds = " or ".join(texts)
    if not folder.is_dir():
        raise UserError(
            "missing folder", str(folder), f"this reader takes folders with {kinds} and {annotations} files", "correct the path under splits, or the reader"
        )
    text_paths: dict[str, Path] = {}
    annotation_paths: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.name in ignored:
            tally.handled[f"files {path.name}"] += 1
            continue
        longer = f"{annotations}.txt"  # as in ShARe/CLEF 2013
        suffix = longer if path.name.endswith(longer) else path.suffix
        if suffix not in (*texts, annotations, longer) or not path.is_file():
            raise UserError("unknown file", str(path), f"a note is a {kinds} and a {annotations} file", "move it elsewhere")
        paths, stem = text_paths if suffix in texts else annotation_paths, path.name.removesuffix(suffix)
        if stem in paths:
            raise UserError("note given twice", str(path), f"{paths[stem].name} is there too", "remove one of them")
        paths[stem] = path
    for doc_id in sorted(text_paths.keys() ^ annotation_paths.keys()):
        path, missing = (text_paths[doc_id], f"no {annotations} file") if doc_id in text_paths else (annotation_paths[doc_id], f"no {kinds} file")
        raise UserError("incomplete note", str(path), f"{missing} of the same name", f"add it (a note without mentions has an empty {annotations} file)")
    for doc_id, path in sorted(text_paths.items()):
        text = decode(path)
        if text.startswith(BYTE_ORDER_MARK):
            raise UserError("byte order mark", f"{path}:1", "offsets may or may not count it", "find out which, then remove it")
        if "\r\n" in text:
            tally.handled["texts with CRLF line ends"] += 1
        yield doc_id, text, path, annotation_paths[doc_id]
