"""Filters that check a note by itself: markup, length, refusals, language, repetitions, and echoes of its prompt.

In: notes. Out: reasons for dropped notes. Knows nothing about concepts and other texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import Field

from mentionforge.generation import markers
from mentionforge.generation.filters.contract import FilterContext, FilterSettings, Note, Reasons, grams, word_list

VERSIONS = {"parse": 1, "length": 1, "refusal": 1, "language": 1, "repetition": 1, "prompt_echo": 1}
"""Versions of the parts filter.*: raise one if its earlier results would be wrong (mentionforge.versions)."""

REFUSALS = (
    "as an ai",
    "as a language model",
    "as an assistant",
    "i am an ai",
    "i'm an ai",
    "i cannot",
    "i can't",
    "i can not",
    "i am unable to",
    "i'm unable to",
    "i am not able to",
    "i'm not able to",
    "i apologize",
    "i'm sorry",
    "i am sorry",
    "cannot provide medical",
    "can't provide medical",
    "not a medical professional",
    "consult a healthcare professional",
    "here is a clinical note",
    "here is a short clinical note",
    "here's a short clinical note",
    "here's a clinical note",
    "sure, here",
    "sure! here",
)
"""Phrases of a model that declines or speaks of itself instead of a patient; matched in any case."""

RESIDUE = re.compile(
    r"<\|[^|>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|\ufffd|[\x00-\x08\x0b-\x1f]|</?(?:div|span|p|br|html|body|b|i)\b[^>]{0,40}>|^\s*Instruction:", re.I | re.M
)
"""Markup that does not belong in a note: tokens of chat templates, HTML, undecodable and control characters, labels of the plain prompt frame."""


class Parse(FilterSettings):
    """Drops notes in which markup is left: chat templates' tokens, tags of other kinds, characters that could not be decoded."""

    require_tags: bool = Field(False, description="Also drop notes without a tagged stretch that is closed.")


def parse(notes: Sequence[Note], settings: Parse, _: FilterContext) -> Reasons:
    """Drop notes with markup other than tags and, with `require_tags`, notes without a closed tag."""
    reasons = {}
    for note in notes:
        residue = RESIDUE.search(note.text)
        if residue:
            reasons[note.note_id] = f"markup at character {residue.start()}: {residue[0].strip()!r}"
        elif settings.require_tags and not any(tag.closed for tag in markers.strip(note.raw)[1]):
            reasons[note.note_id] = "no closed tag"
    return reasons


class Length(FilterSettings):
    """Drops notes that are too short or too long, in words, tags not counted."""

    min_words: int = Field(5, ge=1, description="Fewest words.")
    max_words: int = Field(400, ge=1, description="Most words.")


def length(notes: Sequence[Note], settings: Length, _: FilterContext) -> Reasons:
    """Drop notes with too few or too many words."""
    counts = {note.note_id: len(note.words) for note in notes}
    return {i: f"{n} words" for i, n in counts.items() if not settings.min_words <= n <= settings.max_words}


class Refusal(FilterSettings):
    """Drops notes in which the model declines or speaks of itself."""

    phrases: tuple[str, ...] = Field((), examples=[["I cannot"]], description="Further phrases, in any case, besides those built in.")


def refusal(notes: Sequence[Note], settings: Refusal, _: FilterContext) -> Reasons:
    """Drop notes with a phrase in which the model declines or speaks of itself."""
    phrases = [*REFUSALS, *(phrase.casefold() for phrase in settings.phrases)]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, phrases))})(?!\w)")
    hits = {note.note_id: pattern.search(note.text.casefold().replace("’", "'")) for note in notes}
    return {i: f"says {hit[0]!r}" for i, hit in hits.items() if hit}


class Language(FilterSettings):
    """Drops notes in another language."""

    language: str = Field("en", pattern=r"^[a-z]{2}$", description="ISO 639-1 code of the language to keep.")
    probability: float = Field(0.9, gt=0, le=1, description="How sure the identification of another language must be.")
    min_words: int = Field(8, ge=1, description="Shorter notes are kept: names alone mislead the identification.")


def language(notes: Sequence[Note], settings: Language, _: FilterContext) -> Reasons:
    """Drop notes in another language, as identified by py3langid."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    reasons = {}
    for note in notes:
        if len(note.words) < settings.min_words:
            continue
        code, probability = identifier.classify(note.text)
        if code != settings.language and probability >= settings.probability:
            reasons[note.note_id] = f"{code}, probability {probability:.2f}"
    return reasons


class Repetition(FilterSettings):
    """Drops notes that repeat themselves."""

    n: int = Field(4, ge=1, description="Length of the word n-grams.")
    share: float = Field(0.3, gt=0, le=1, description="Most n-grams that may be repetitions of earlier ones, as a share.")


def repetition(notes: Sequence[Note], settings: Repetition, _: FilterContext) -> Reasons:
    """Drop notes in which too many n-grams repeat earlier ones."""
    reasons = {}
    for note in notes:
        ngrams = grams(note.words, settings.n)
        share = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
        if share > settings.share:
            reasons[note.note_id] = f"{100 * share:.0f} % of the {settings.n}-grams are repetitions"
    return reasons


class PromptEcho(FilterSettings):
    """Drops notes that say the prompt again, definition included."""

    n: int = Field(8, ge=2, description="Length of the word n-grams.")
    share: float = Field(0.3, gt=0, le=1, description="Most of the note's n-grams that may stand in its prompt, as a share.")


def prompt_echo(notes: Sequence[Note], settings: PromptEcho, _: FilterContext) -> Reasons:
    """Drop notes in which too many n-grams come from the prompt."""
    reasons = {}
    for note in notes:
        of_prompt = set(grams(word_list(markers.strip(note.prompt)[0]), settings.n))
        ngrams = grams(note.words, settings.n)
        share = sum(gram in of_prompt for gram in ngrams) / len(ngrams) if ngrams else 0.0
        if share > settings.share:
            reasons[note.note_id] = f"{100 * share:.0f} % of the {settings.n}-grams are the prompt's"
    return reasons
