"""The kind `few_shot`: a language model that is shown examples from a corpus' training split in each prompt, and is not fine-tuned.

In: the pairs of the training split, and the knowledge base. Out: table `prompts`; the notes are sampled as those of `llm`. Knows nothing about tokens.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from mentionforge.errors import UserError
from mentionforge.generation.kinds.llm import SampledSettings
from mentionforge.generation.prompt_settings import NamedPrompt, Prompt
from mentionforge.generation.settings import Examples

if TYPE_CHECKING:
    from mentionforge.generation.templates import ShownExample


class FewShotGenerator(SampledSettings):
    """A causal language model as it is, with examples in its prompts."""

    kind: Literal["few_shot"]
    prompt: NamedPrompt = Field("few_shot", description="Entry of prompts: what the model is asked; its template reads examples.")
    examples: Examples | None = Field(None, description="The examples in each prompt.")

    @property
    def finetune(self) -> None:
        """None: the model is not fine-tuned."""
        return None

    @property
    def sentences_shown(self) -> int:
        """The examples, each with its context."""
        return self.examples.n * (2 * self.examples.context_sentences + 1) if self.examples else 0

    @property
    def training_text(self) -> Examples | None:
        """The examples."""
        return self.examples

    def references(self) -> Iterator[tuple[str, str, str]]:
        """Its model, and the corpus of the examples."""
        yield from super().references()
        if self.examples:
            yield "examples.corpus", "corpora", self.examples.corpus

    def with_prompt(self, key: str, prompts: Mapping[str, Prompt]) -> Self:
        """With the entry, whose template must show the examples."""
        from mentionforge.generation.templates import variables

        made = super().with_prompt(key, prompts)
        if "examples" not in variables(made.asked):
            fix = "write {% for example in examples %} into it, or choose kind llm"
            raise UserError("unfit prompt", f"{key}.prompt", f"the template of {self.prompt} shows no examples", fix)
        return made

    def check(self, key: str) -> None:
        """Check that there are examples, and the settings against the backend's demands."""
        super().check(key)
        if self.examples is None:
            raise UserError("missing key", f"{key}.examples", "kind few_shot shows examples", "add examples: {corpus: NAME}")

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """Model and sampling, and the examples."""
        shown = settings.get("examples") or {}
        return [*super().how_made(settings, base), f"- {shown.get('n')} examples in each prompt, from the training split of `{shown.get('corpus')}`"]

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """The model, and the corpus of the examples."""
        filtered = "ran" if (settings.get("filters") or {}).get("memorization") else "**did not run**"
        why = "text of patients may be bound by a data use agreement, which may reach what the model writes"
        corpus = (settings.get("examples") or {}).get("corpus")
        line = f"- the corpus `{corpus}`, whose text was shown: {why}; the filter `memorization`, which drops long stretches of it, {filtered}"
        return [*super().licences(settings, base), line]

    def make_prompts(self, spec: Path, kb: Path, source: Path | None, mentions: Path | None, out: Path, corpus: Path | None = None) -> None:
        """Prompts with examples; `source` is the table `pairs` of the training split, so that `corpus` itself is not read."""
        from mentionforge import tables
        from mentionforge.generation import concepts
        from mentionforge.generation.prompts import make_prompts

        assert source and self.examples, "the rule gives the pairs, and the config is checked for examples"
        pairs = tables.read(tables.PAIRS, source).to_pylist()
        known = concepts.load(kb, {row["cui"] for row in pairs if row["cui"]})
        pool = Pool(pairs, {cui: concept.preferred for cui, concept in known.items()}, self.examples, self.asked.markers)
        make_prompts(spec, kb, out, mentions, pool.draw, source)


class Pool:
    """The texts that examples are drawn from.

    Args:
        pairs: Rows of the table `pairs`; `generation/pairs.py` makes them of the training split, and refuses any other.
        names: Preferred names by CUI. Pairs without a CUI, or without a name, are left out and counted.
        settings: How to draw.
        marks: Markers of the prompt.

    Raises:
        UserError: Too few texts.
    """

    def __init__(self, pairs: Sequence[Mapping[str, Any]], names: Mapping[str, str], settings: Examples, marks: tuple[str, str]) -> None:
        from mentionforge.generation import markers
        from mentionforge.generation.templates import ShownExample
        from mentionforge.progress import say

        usable = sorted((row for row in pairs if row["cui"] in names), key=lambda row: str(row["pair_id"]))
        self._settings = settings
        self._pool = [(str(row["cui"]), ShownExample(names[row["cui"]], markers.as_markers(row["completion"], marks))) for row in usable]
        self._texts = Counter(cui for cui, _ in self._pool)
        if len(self._pool) < settings.n:
            why = f"the training split of {settings.corpus} has {len(self._pool)} texts with a concept of the knowledge base"
            raise UserError("too few examples", "config: generators.*.examples.n", why, f"lower it to {len(self._pool)}, or name another corpus")
        say(f"examples are drawn from {len(self._pool):,} texts of {len(self._texts):,} concepts; {len(pairs) - len(usable):,} without a concept are left out")

    def draw(self, note_id: str, cui: str) -> tuple[ShownExample, ...]:
        """The examples of one note, which depend on its id, the seed and the pool alone. None is of the note's own concept.

        Raises:
            UserError: Too few texts of other concepts.
        """
        from mentionforge.generation.prompts import seed_of

        wanted, own = self._settings.n, self._texts[cui]
        if len(self._pool) - own < wanted:
            why = f"the training split of {self._settings.corpus} has {len(self._pool) - own} texts of other concepts than {cui}"
            raise UserError("too few examples", "config: generators.*.examples.n", why, f"lower it to {len(self._pool) - own}, or name another corpus")
        drawn = random.Random(seed_of(self._settings.seed, note_id)).sample(self._pool, wanted + own)
        return tuple(example for topic, example in drawn if topic != cui)[:wanted]
