"""Matching: finds the mentions of one concept in a text. In: the concept's names and a text. Out: mention spans. Knows nothing of tables and files.

From the ground up: `forms` (when two words are the same word), `words` (which words of a text stand for words of the names), `names` (word sequences that a
name allows), `view` (cached chunks and prepared texts), `matcher` (the search itself; its head explains the bit masks with an example).
"""

from mentionforge.generation.matching.matcher import LocatedMention, Matcher

__all__ = ["LocatedMention", "Matcher"]
