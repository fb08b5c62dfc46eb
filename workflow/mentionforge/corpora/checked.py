"""Sanity checks of a corpus: mentions that begin or end inside a word, and ids without a known form.

In: documents and ids. Out: warnings for the log. Changes nothing. Knows nothing of formats and knowledge bases.
"""

from __future__ import annotations

from mentionforge.corpora.concept_ids import form_of
from mentionforge.corpora.documents import Document
from mentionforge.corpora.spans import cuts_word

SUSPICIOUS = 0.03
"""Share of surfaces that begin or end inside a word above which the log and the card warn. NCBI Disease and BC5CDR have 0.0001."""


class SanityChecks:
    """Counts mentions that begin or end inside a word, and ids that do not have the form of a known vocabulary, and warns of them."""

    def __init__(self) -> None:
        self.mentions = self.inside_words = 0
        self.forms: dict[str, tuple[int, str]] = {}

    def add(self, document: Document) -> None:
        """Count the mentions of a document."""
        self.mentions += len(document.annotations)
        self.inside_words += sum(cuts_word(a.spans, document.text) for a in document.annotations)

    def add_id(self, concept_id: str, mentions: int = 1) -> None:
        """Count an id without a known form, with its number of mentions; the first id of each form is kept as an example."""
        form = form_of(concept_id)
        n, example = self.forms.get(form, (0, concept_id))
        self.forms[form] = n + mentions, example

    @property
    def suspicious(self) -> bool:
        """Whether the share of mentions that begin or end inside a word exceeds `SUSPICIOUS`."""
        return self.inside_words > SUSPICIOUS * self.mentions

    def warnings(self, scope: str = "") -> list[str]:
        """Warnings for the log; `scope` says which part of the corpus they are about."""
        lines = []
        if self.suspicious:
            share = f"{self.inside_words:,} of {self.mentions:,} surfaces{scope} begin or end inside a word ({self.inside_words / self.mentions:.1%})"
            lines.append(f"WARNING: {share}: the offsets may count other characters than the text has")
        if self.forms:
            n = sum(n for n, _ in self.forms.values())
            forms = ", ".join(
                f"{form} ({n:,}, as {example[:40]!r})" for form, (n, example) in sorted(self.forms.items(), key=lambda item: (-item[1][0], item[0]))[:5]
            )
            more = f" and {len(self.forms) - 5:,} forms more" if len(self.forms) > 5 else ""
            lines.append(f"WARNING: {n:,} ids{scope} look like those of no known vocabulary, by form: {forms}{more}")
        return lines
