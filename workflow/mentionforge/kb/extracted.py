"""What a reader of a knowledge base hands over to `extract`: `rrf.read` and `ontologies.merge` make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa


class Extracted(NamedTuple):
    """What a reader found: rows of the five tables, sorted by their keys, the files read by role, and what went in and was dropped."""

    concepts: pa.Table
    names: pa.Table
    definitions: pa.Table
    xrefs: pa.Table
    retired: pa.Table
    inputs: dict[str, Path]
    funnel: dict[str, Any]
