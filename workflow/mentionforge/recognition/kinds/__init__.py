"""Kinds of recognizers, one file each; `contract` says what each kind provides.

In: an entry of `recognizers`. Out: its kind. Knows nothing of rules. `RECOGNIZERS` and `Recognizer` list the kinds in the order of docs and schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from mentionforge.recognition.kinds.contract import RecognizerKind
from mentionforge.recognition.kinds.dictionary import DictionaryRecognizer
from mentionforge.recognition.kinds.external import ExternalRecognizer
from mentionforge.recognition.kinds.tagger import TaggerRecognizer

RECOGNIZERS: tuple[type[RecognizerKind], ...] = (TaggerRecognizer, DictionaryRecognizer, ExternalRecognizer)


def _recognizer_kind(value: Any) -> Any:
    return value.get("kind", "tagger") if isinstance(value, Mapping) else getattr(value, "kind", None)


Recognizer = Annotated[
    Annotated[TaggerRecognizer, Tag("tagger")] | Annotated[DictionaryRecognizer, Tag("dictionary")] | Annotated[ExternalRecognizer, Tag("external")],
    Discriminator(_recognizer_kind, custom_error_type="kind", custom_error_message="kind is tagger, dictionary or external"),
]
