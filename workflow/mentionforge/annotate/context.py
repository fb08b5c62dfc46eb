"""Negation, family and hypothetical context of mentions, by the library negspacy (NegEx, Chapman et al. 2001).

Negation uses the library's own clinical phrases. Family and hypothetical context use the same algorithm with the phrases below, as ConText
(Harkema et al. 2009) does: a phrase reaches to the mentions after it (or before it) in its sentence, up to a phrase that ends its reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mentionforge.errors import UserError
from mentionforge.text import Span

_RELATIVES = [
    "mother",
    "father",
    "sister",
    "brother",
    "son",
    "daughter",
    "aunt",
    "uncle",
    "niece",
    "nephew",
    "cousin",
    "sibling",
    "siblings",
    "parent",
    "parents",
    "grandmother",
    "grandfather",
    "grandparents",
    "grandson",
    "granddaughter",
    "relative",
    "relatives",
    "mom",
    "dad",
    "brothers",
    "sisters",
    "uncles",
    "aunts",
    "cousins",
]
_TOLD = ("per", "according to", "accompanied by", "lives with", "history obtained from", "history from", "discussed with", "informed by", "reported by")
_TELLS = ("reports", "states", "says", "denies", "noticed", "brought", "called", "is concerned")

PHRASES: dict[str, dict[str, list[str]]] = {
    "family": {
        "pseudo_negations": [f"{told} {who}" for told in _TOLD for who in (*_RELATIVES, "family")]
        + [f"{told} {his} {who}" for told in _TOLD for his in ("his", "her", "the") for who in (*_RELATIVES, "family")]
        + [f"{who} {tells}" for who in (*_RELATIVES, "family") for tells in _TELLS],
        "preceding_negations": ["family history", "family hx", "fh", "fhx", "fam hx", "maternal", "paternal", *_RELATIVES],
        "following_negations": ["in the family", "in his family", "in her family", "in their family", "in a relative", "family history"]
        + [f"in {his} {who}" for his in ("his", "her", "the", "a") for who in _RELATIVES],
        "termination": ["patient", "the patient", "patient's", "pt", "but", "however", "although", "he", "she", "himself", "herself", "presents", "presented"],
    },
    "hypothetical": {
        "pseudo_negations": ["if negative", "know if", "if not already", "even if"],
        "preceding_negations": [
            "if",
            "should",
            "in case of",
            "in case",
            "in the event of",
            "return for",
            "come back for",
            "call for",
            "look for",
            "looking for",
            "monitor for",
            "watch for",
            "at risk for",
            "at risk of",
            "risk of",
            "risk for",
            "prophylaxis for",
            "prevent",
            "prevention of",
            "to avoid",
            "screening for",
            "screen for",
            "screened for",
            "as needed for",
            "prn for",
            "counselled about",
            "counseled about",
        ],
        "following_negations": ["prophylaxis", "precautions", "screening"],
        "termination": ["because", "since", "but", "however", "although", "which", "then", "still"],
    },
}


class Context:
    """Reads the context of mentions."""

    def __init__(self) -> None:
        try:
            from negspacy.negation import Negex
            from negspacy.termsets import termset
        except ImportError as error:
            raise UserError("missing library", "--context", "negspacy is not installed", "pip install 'mentionforge[context]'") from error
        import spacy

        self.nlp = spacy.blank("en")
        known = {"negated": termset("en_clinical").get_patterns(), **PHRASES}
        make = partial(Negex, self.nlp, span_keys=["found"])
        self.rules: list[tuple[str, str, Any]] = [
            (name, f"mentionforge_{name}", make(name, neg_termset=phrases, extension_name=f"mentionforge_{name}")) for name, phrases in known.items()
        ]

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The context of each mention: `negated`, `family`, `hypothetical`, those that hold.

        Args:
            text: The section.
            sentences: Character spans of its sentences.
            mentions: Character spans of the mentions, in order.
        """
        found: list[tuple[str, ...]] = []
        at = 0
        # Sentences with mentions are few, and each is read alone: nothing reaches across its end.
        for i, (start, end) in enumerate(sentences):
            inside = []
            limit = sentences[i + 1][0] if i + 1 < len(sentences) else len(text)
            while at < len(mentions) and mentions[at][0] < limit:
                inside.append(mentions[at])
                at += 1
            if inside:
                found += self._sentence(text[start : max(end, inside[-1][1])], [(a - start, b - start) for a, b in inside])
        return found + [()] * (len(mentions) - at)

    def _sentence(self, sentence: str, mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        with self.nlp.memory_zone():  # or the vocabulary would keep every word it has seen
            doc = self.nlp.make_doc(sentence)
            if not len(doc):
                return [()] * len(mentions)
            for token in doc:
                token.is_sent_start = token.i == 0
            spans = [doc.char_span(max(a, 0), b, label="Disease", alignment_mode="expand") for a, b in mentions]
            doc.spans["found"] = [s for s in spans if s is not None]
            for _, _, rule in self.rules:
                rule(doc)
            return [tuple(name for name, key, _ in self.rules if span is not None and span._.get(key)) for span in spans]
