"""The result of reading a knowledge base: `rrf.read` and `ontologies.merge` return it, `extract` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa


class Extracted(NamedTuple):
    """The five tables of a knowledge base.

    Attributes:
        concepts, names, definitions, xrefs, retired: Tables of `mentionforge.tables`, sorted by key.
        inputs: Files read, by role.
        funnel: Counts of rows read and dropped, by reason.
    """

    concepts: pa.Table
    names: pa.Table
    definitions: pa.Table
    xrefs: pa.Table
    retired: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]
