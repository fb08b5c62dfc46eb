"""Quality filters: `Filters` is the chain as the configuration gives it, `FILTERS` the code by the same names, both in order.

A filter is a class of settings and a function in one file; `contract.py` says what it sees and gives. The chain is run by `generation/filtering.py`.
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
        """Names and settings of the filters that are given, in order."""
        return [(name, settings) for name in type(self).model_fields if (settings := getattr(self, name)) is not None]


FILTERS: dict[str, Filter] = {
    f.__name__: f for f in (parse, length, refusal, language, repetition, prompt_echo, near_duplicate, leakage, memorization, contradiction, agreement)
}
"""Filters by the name that they have in the config."""
