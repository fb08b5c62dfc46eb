"""Matching: where a text mentions a concept.

- `forms`: when two words are the same word: another number, spelling or accent, or a slip of the pen.
- `names`: what of a name must stand in a text, in which order and with what in between.
- `words`: which words of a text may stand for words of the names.
- `view`: what is remembered of a text's chunks, and what is to be looked for in it.
- `matcher`: puts these together for one concept and a text.
"""

from mentionforge.generation.matching.matcher import Matcher, Mention

__all__ = ["Matcher", "Mention"]
