"""The two forms of a concept id: a UMLS CUI (C0018099), or a prefix and a code (HP:0001250).

In: an id as in the tables of a knowledge base. Out: whether it is a CUI, and the id with a vocabulary before it, as corpora and exports write ids.
Knows nothing of which ids there are.
"""

from __future__ import annotations

import re

CUI = re.compile(r"C\d{7}")
"""Pattern of UMLS concept unique identifiers."""


def with_vocabulary(concept: str) -> str:
    """A concept id with its vocabulary: CUI:C0018099; one with a prefix stays as it is."""
    return concept if ":" in concept else f"CUI:{concept}"
