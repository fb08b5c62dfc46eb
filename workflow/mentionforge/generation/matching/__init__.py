"""Matching: where a text mentions a concept.

- `forms`: when two words are the same word: another number, spelling or accent, or a slip of the pen.
- `names`: what of a name must stand in a text, in which order and with what in between.
- `matcher`: puts both together for one concept and a text.
"""

from mentionforge.generation.matching.matcher import Matcher, Mention

__all__ = ["Matcher", "Mention"]
