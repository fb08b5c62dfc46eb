"""The family of quality filters: `Filters` holds their settings, `FILTERS` their functions under the same names; both define the order of the chain.

In: settings of a generator's filters. Out: the chain, which `generation/filtering.py` runs. Knows nothing of tables.
A filter is a settings class and a function in one file; `contract.py` defines its input and output.
"""

from __future__ import annotations

from importlib import import_module
from types import NoneType
from typing import get_args

from mentionforge.entries import Entry
from mentionforge.generation.filters.concept import Agreement, Contradiction
from mentionforge.generation.filters.contract import Filter, FilterSettings
from mentionforge.generation.filters.copies import Leakage, Memorization, NearDuplicate
from mentionforge.generation.filters.text import Language, Length, Parse, PromptEcho, Refusal, Repetition


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

    def chain(self) -> list[tuple[str, FilterSettings]]:
        """Names and settings of the filters that are given, in order."""
        return [(name, settings) for name in type(self).model_fields if (settings := getattr(self, name)) is not None]

    @property
    def encoder_readers(self) -> list[str]:
        """Names of the filters that compare with an encoder."""
        return [name for name, settings in self.chain() if settings.reads_encoder]

    @property
    def pair_readers(self) -> list[str]:
        """Names of the filters that compare with the fine-tuning pairs."""
        return [name for name, settings in self.chain() if settings.reads_pairs]

    @property
    def test_corpora(self) -> dict[str, list[str]]:
        """Corpora whose test documents filters compare with, each with the names of these filters."""
        filters: dict[str, list[str]] = {}
        for name, settings in self.chain():
            for corpus in settings.test_corpora:
                filters.setdefault(corpus, []).append(name)
        return filters


def _function(name: str) -> Filter:
    """The function of a filter: it has the filter's name, and stands in the file of its settings."""
    (settings,) = (one for one in get_args(Filters.model_fields[name].annotation) if one is not NoneType)
    function: Filter = getattr(import_module(settings.__module__), name)
    return function


FILTERS: dict[str, Filter] = {name: _function(name) for name in Filters.model_fields}
"""Filters by the name that they have in the config."""
