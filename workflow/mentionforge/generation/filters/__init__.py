"""The family of quality filters: `Filters` holds their settings, `FILTERS` their functions under the same names; both define the order of the chain.

A filter is a settings class and a function in one file; `contract.py` defines its input and output. `generation/filtering.py` runs the chain.
"""

from __future__ import annotations

from typing import Any

from mentionforge.entries import Entry
from mentionforge.generation.filters.concept import Agreement, Contradiction, agreement, contradiction
from mentionforge.generation.filters.contract import Filter
from mentionforge.generation.filters.copies import Leakage, Memorization, NearDuplicate, leakage, memorization, near_duplicate
from mentionforge.generation.filters.text import (
    Language,
    Length,
    Parse,
    PromptEcho,
    Refusal,
    Repetition,
    language,
    length,
    parse,
    prompt_echo,
    refusal,
    repetition,
)


class Filters(Entry):
    """Chain of quality filters, in this order: the cheap ones first, each on what those before it left. What is not given is not run."""

    parse: Parse | None = None
    length: Length | None = None
    refusal: Refusal | None = None
    language: Language | None = None
    repetition: Repetition | None = None
    prompt_echo: PromptEcho | None = None
    near_duplicate: NearDuplicate | None = None
    leakage: Leakage | None = None
    memorization: Memorization | None = None
    contradiction: Contradiction | None = None
    agreement: Agreement | None = None

    def chain(self) -> list[tuple[str, Any]]:
        """Names and settings of the configured filters, in order."""
        return [(name, settings) for name in type(self).model_fields if (settings := getattr(self, name)) is not None]


FILTERS: dict[str, Filter] = {
    f.__name__: f for f in (parse, length, refusal, language, repetition, prompt_echo, near_duplicate, leakage, memorization, contradiction, agreement)
}
"""Filter functions by their names in the config."""
