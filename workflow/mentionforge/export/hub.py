"""What cards for model and data hubs share: the licence, and a check by the hub's own parser.

In: a licence id, or a card. Out: fields of the card's metadata, or a UserError. Sends nothing: the hub's further checks run when its own tool uploads.
Knows nothing of what a card describes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from mentionforge.errors import UserError

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def check_licence(licence: str) -> None:
    """Check that a licence has the form of the hub's ids.

    Raises:
        UserError: It has not.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise UserError("unknown licence", "--license", repr(licence), "give an id of the hub in lower case, as cc-by-4.0, apache-2.0 or other")


def licence_fields(licence: str) -> dict[str, Any]:
    """`license` of the metadata; `other` has a name and a place, too."""
    return {"license": licence} | ({"license_name": "not-set", "license_link": "README.md"} if licence == "other" else {})


def size_category(n: int) -> str:
    """The hub's category of a number of rows."""
    return next((name for limit, name in SIZES if n < limit), "n>10M")


def check_card(path: Path, kind: Literal["model", "dataset"]) -> None:
    """Read a card with the hub's own library.

    Raises:
        UserError: It does not accept the metadata; this would be a bug.
    """
    from huggingface_hub import DatasetCard, ModelCard

    card = ModelCard if kind == "model" else DatasetCard
    try:
        read = card.load(path)
    except ValueError as error:
        raise UserError("bad card", path.name, str(error), "this is a bug of mentionforge; report it") from error
    if not read.data.to_dict().get("license"):
        raise UserError("bad card", path.name, "it has no metadata", "this is a bug of mentionforge; report it")
