"""A look at all mentions of a corpus: do many begin or end inside a word, and are there ids of no known form?

In: documents and ids. Out: lines for the log, which warn. Changes nothing.
"""

from __future__ import annotations

from mentionforge.corpora.concept_ids import form_of
from mentionforge.corpora.documents import Document
from mentionforge.corpora.spans import cuts_word

SUSPICIOUS = 0.03
"""Share of surfaces that may begin or end inside a word before the log and the card warn of it. NCBI Disease and BC5CDR have 0.0001."""


class Checked:
    """What a look at all mentions tells about a corpus: how many begin or end inside a word, and whose ids have no form of a known vocabulary."""

    def __init__(self) -> None:
        self.mentions = self.inside_words = 0
        self.forms: dict[str, tuple[int, str]] = {}

    def add(self, document: Document) -> None:
        """Look at a document's mentions."""
        self.mentions += len(document.annotations)
        self.inside_words += sum(cuts_word(a.spans, document.text) for a in document.annotations)

    def add_id(self, concept_id: str, mentions: int = 1) -> None:
        """Count an id of no known form, with its mentions, and keep the first of each form as an example."""
        form = form_of(concept_id)
        n, example = self.forms.get(form, (0, concept_id))
        self.forms[form] = n + mentions, example

    @property
    def suspicious(self) -> bool:
        """Whether more mentions than a few in a hundred begin or end inside a word."""
        return self.inside_words > SUSPICIOUS * self.mentions

    def told(self, what: str = "") -> list[str]:
        """Lines for the log."""
        found = []
        if self.suspicious:
            share = f"{self.inside_words:,} of {self.mentions:,} surfaces{what} begin or end inside a word ({self.inside_words / self.mentions:.1%})"
            found.append(f"WARNING: {share}: the offsets may count other characters than the text has")
        if self.forms:
            n = sum(n for n, _ in self.forms.values())
            forms = ", ".join(
                f"{form} ({n:,}, as {example[:40]!r})" for form, (n, example) in sorted(self.forms.items(), key=lambda item: (-item[1][0], item[0]))[:5]
            )
            more = f" and {len(self.forms) - 5:,} forms more" if len(self.forms) > 5 else ""
            found.append(f"WARNING: {n:,} ids{what} look like those of no known vocabulary, by form: {forms}{more}")
        return found
