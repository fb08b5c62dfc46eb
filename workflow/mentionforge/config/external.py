"""Checks of external linkers and recognizers, before the DAG is built.

In: the whole configuration. Out: nothing, or the first error. Knows nothing of the contents of files.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentionforge.config.schema import Config
from mentionforge.entries import EXTERNAL
from mentionforge.errors import UserError
from mentionforge.external.settings import SUFFIXES, TABLE, External, files_below


def check_external(config: Config, root: Path | None) -> None:
    """Raise an error for external entries that the experiment cannot read.

    Args:
        config: The configuration.
        root: Folder that relative paths refer to; none: do not look for files.

    Raises:
        UserError: An index has the reserved name, a mapping names an unknown corpus, a corpus of the grid has no file, several corpora share a
            file, or a file does not exist.
    """
    if EXTERNAL in config.indexes:
        raise UserError("reserved name", f"config: indexes.{EXTERNAL}", "it stands for the index of external linkers", "rename the index")
    bases = {name.partition("~")[0] for name in config.corpora}
    for kind in ("linkers", "recognizers"):
        for name, entry in getattr(config, kind).items():
            unknown = sorted(set(entry.path) - bases - set(config.corpora)) if isinstance(entry, External) and isinstance(entry.path, dict) else []
            if unknown:
                known_corpora = ", ".join(sorted(config.corpora))
                raise UserError(f"unknown corpus {unknown[0]!r}", f"config: {kind}.{name}.path", "", f"known: {known_corpora}")
    corpora_of: dict[tuple[str, str], set[str]] = {}
    for kind, name, corpus in _entries_in_grids(config):
        entry = getattr(config, kind)[name]
        where, path = f"config: {kind}.{name}.path", entry.path_for(corpus)
        if path is None:
            if entry.missing_corpora == "error":
                fix = f"add `{corpus}: FILE`, take the corpus out of the grid, or set missing_corpora: skip"
                raise UserError("no predictions for a corpus", where, f"the grid asks for {corpus}, and path names {', '.join(sorted(entry.path))}", fix)
            continue
        corpora_of.setdefault((kind, name), set()).add(corpus.partition("~")[0])
        if isinstance(entry.path, str) and "{corpus}" not in entry.path and len(corpora_of[kind, name]) > 1:
            corpora = " and ".join(sorted(corpora_of[kind, name]))
            raise UserError(
                "one file for several corpora", where, f"the grid asks for {corpora}", "write a mapping of corpora to files, or a pattern with {corpus}"
            )
        if root is not None and path not in {config.download_path(d) for d in config.downloads} and not os.path.exists(root / path):  # noqa: PTH110
            raise UserError("missing file", where, f"{path} does not exist", "correct the path, or put the predictions there")
        files = files_below(root / path) if root is not None and entry.reader == TABLE and os.path.exists(root / path) else []  # noqa: PTH110
        if odd := next((file for file in files if Path(file).suffix.lower() not in SUFFIXES), None):
            raise UserError("no table", where, f"{path}: {Path(odd).name} is none", "name the reader of its format: reader: brat, pubtator, …")


def _entries_in_grids(config: Config) -> Iterator[tuple[str, str, str]]:
    """Kind, name and corpus of every external entry in a grid."""
    grids: list[tuple[str, Any]] = [("recognizers", grid) for grid in config.experiment.recognition]
    grids += [("linkers", grid) for grid in config.experiment.normalization]
    for kind, grid in grids:
        for name, corpus in itertools.product(getattr(grid, kind), grid.corpora):
            if isinstance(getattr(config, kind)[name], External):
                yield kind, name, corpus
