"""The kind `replacement`: sentences of a training split in which one mention gives way to another name. A control without a language model.

In: the training split of a corpus, and the knowledge base. Out: tables `prompts` and `notes`. A prompt is a plan in JSON: which place of which document gets
which name, and which other gold mentions stay. So the places of all mentions are known, and none is searched for. Knows nothing about models and sampling.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mentionforge.encoder_settings import NoteEncoder
from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.generation.filters import Filters
from mentionforge.generation.kinds.contract import GeneratorSettings, PlacedMention, PlacedNote
from mentionforge.generation.settings import Concepts

if TYPE_CHECKING:
    from mentionforge.generation.concepts import Concept
    from mentionforge.generation.training_sentences import TrainingMention, TrainingSentence
    from mentionforge.generation.wording import Case

VERSION = 1
"""Version of the part generation.replacement: raise it if earlier results would be wrong (mentionforge.versions)."""

Demand = Literal["required", "preferred", "ignored"]


class Fit(Entry):
    """What makes a name fit the place of a mention. Preferred qualities count in this order, the first most."""

    semantic_type: Demand = Field("preferred", description="The mention's concept has a semantic type of the name's; by synonym they always agree.")
    number: Demand = Field("preferred", description="The head nouns of mention and name are both singular, or both plural.")
    head_noun: Demand = Field("ignored", description="Mention and name have the same head noun: a carcinoma for a carcinoma.")
    case: Literal["running_text", "as_listed"] = Field(
        "running_text",
        description="Write names as sentences do (lower case but for proper names, a capital at the beginning), or as the knowledge base lists them.",
    )
    article: bool = Field(True, description='Write "a" or "an" before the name by its own sound.')


class ReplacementGenerator(GeneratorSettings):
    """Training sentences of a corpus in which one mention gives way to a name of another concept, or to another name of its own."""

    control: ClassVar[bool] = True
    prompts_part: ClassVar[str] = "generation.replacement"
    notes_part: ClassVar[str] = "generation.replacement"
    usual_sentences: ClassVar[float] = 1.0
    repeats_corpus: ClassVar[bool] = True

    kind: Literal["replacement"]
    kb: str = Field(description="Knowledge base whose names are written: that of the corpus.")
    corpus: str = Field(description="Corpus whose training split gives the sentences; test and dev never do.")
    by: Literal["concept", "synonym"] = Field(
        "concept", description="concept: mentions of other concepts give way to the concept's names. synonym: its own mentions do, to another of its names."
    )
    concepts: Concepts = Field(Concepts())
    notes_per_concept: int | None = Field(1, ge=1, description="Notes for each concept, which take its names in turn; none: one for each of its names.")
    names: Literal["running_text", "preferred", "all"] = Field(
        "running_text",
        description="Names that are written: those that read like running text (no inversion, bracket or abbreviation, six words at most), the preferred one, all.",
    )
    fit: Fit = Field(Fit())
    share: float = Field(
        1.0, gt=0, le=1, description="Share of the training mentions that may give way, drawn with the seed; a larger share holds a smaller one."
    )
    seed: int = Field(13, description="Seed of the choice of sentences.")
    encoder: NoteEncoder | None = Field(None, description="Encoder of filters.agreement.")
    filters: Filters = Field(Filters())

    @property
    def reads_corpus(self) -> str:
        """Its `corpus`."""
        return self.corpus

    @property
    def compares_tags(self) -> bool:
        """The places of mentions are known."""
        return False

    def references(self) -> Iterator[tuple[str, str, str]]:
        """The corpus."""
        yield "corpus", "corpora", self.corpus

    @classmethod
    def about(cls, settings: Mapping[str, Any]) -> str:
        """That the text is the corpus'."""
        return (
            "Sentences of a corpus in which a program replaced one mention by another name. **They hold the corpus' text, which may be that of patients' "
            "records; with the other name, what they say is no longer true.**"
        )

    @classmethod
    def how_made(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """Which mentions gave way to which names."""
        name = "another name of its concept" if settings["by"] == "synonym" else "a name of another concept"
        return [f"Without a language model: in each sentence of the training split of `{settings['corpus']}`, one mention gave way to {name}."]

    @classmethod
    def licences(cls, settings: Mapping[str, Any], base: str) -> list[str]:
        """The corpus."""
        return [
            f"- the training split of the corpus `{settings['corpus']}`: every note is a sentence of it, so its licence or data use agreement binds the notes"
        ]

    def make_prompts(self, spec: Path, kb: Path, source: Path | None, mentions: Path | None, out: Path, corpus: Path | None = None) -> None:
        """The plans, and left_out.csv beside them: concepts with fewer notes than asked for."""
        assert corpus, "the rule gives it"
        make_prompts(self, spec, kb, corpus, mentions, out)

    def make_notes(self, spec: Path, kb: Path, prompts: Path, source: Path | None, out: Path, corpus: Path | None = None) -> None:
        """The sentences as planned."""
        assert corpus, "the rule gives it"
        make_notes(self, spec, prompts, corpus, out)

    def placed(self, prompt: str, text: str) -> PlacedNote:
        """The places that the plan tells."""
        return Plan.read(prompt).placed(text)


@dataclass(frozen=True)
class Plan:
    """How a note is made of a training sentence. Offsets are characters of the document.

    Attributes:
        document: Id of the document.
        sentence: Start and end of the sentence.
        mention: Start and end of the mention that gives way.
        name: The name as the knowledge base lists it.
        written: The name as it is written in its place.
        edits: Other changes, before the mention: start, end and new text of each.
        kept: Other gold mentions of the sentence: start, end, and the concept if it has exactly one, else an empty text.
    """

    document: str
    sentence: tuple[int, int]
    mention: tuple[int, int]
    name: str
    written: str
    edits: tuple[tuple[int, int, str], ...]
    kept: tuple[tuple[int, int, str], ...]

    @classmethod
    def read(cls, prompt: str) -> Plan:
        """The plan of a prompt."""
        data = json.loads(prompt)
        pairs = {key: tuple(data[key]) for key in ("sentence", "mention")}
        rows = {key: tuple(tuple(row) for row in data[key]) for key in ("edits", "kept")}
        return cls(**{**data, **pairs, **rows})

    def prompt(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def _changes(self) -> list[tuple[int, int, str]]:
        return sorted([*self.edits, (*self.mention, self.written)])

    def text(self, document: str) -> str:
        """The note, from the text of its document."""
        at, pieces = self.sentence[0], []
        for start, end, new in self._changes():
            pieces += [document[at:start], new]
            at = end
        return "".join([*pieces, document[at : self.sentence[1]]])

    def placed(self, text: str) -> PlacedNote:
        """The note's mentions, at the places to which the changes have moved them."""

        def moved(at: int) -> int:
            """Offset in the note of an offset in the document."""
            return at - self.sentence[0] + sum(len(new) - (end - start) for start, end, new in self._changes() if end <= at and start < at)

        start = moved(self.mention[0])
        own = PlacedMention(start, start + len(self.written), self.name, "")
        return PlacedNote(text, own, tuple(PlacedMention(moved(a), moved(b), "", cui) for a, b, cui in self.kept))


# ------------------------------------------------------------------------------------------------------------ what fits


@dataclass(frozen=True)
class OpenPlace:
    """A mention that may give way, in its sentence."""

    sentence: TrainingSentence
    mention: TrainingMention


Look = tuple[frozenset[str], bool, str]
"""What is compared: semantic types, whether the head noun is a plural, the head noun."""


class Places:
    """The places of a training split, by what they look like."""

    def __init__(self, places: Sequence[OpenPlace], types: Mapping[str, frozenset[str]], fit: Fit) -> None:
        """Group the places.

        Args:
            places: In a fixed order.
            types: Semantic types of each concept.
            fit: Demands.
        """
        from mentionforge.generation.wording import head_noun, is_plural

        self.types = types
        self.demands = (fit.semantic_type, fit.number, fit.head_noun)
        self.by_look: defaultdict[Look, list[OpenPlace]] = defaultdict(list)
        for place in places:
            surface = place.mention.surface
            of_mention = frozenset().union(*(types.get(cui, frozenset()) for cui in place.mention.cuis))
            self.by_look[of_mention, is_plural(surface), head_noun(surface)].append(place)
        self._ranked: dict[Look, list[list[OpenPlace]]] = {}

    def ranked(self, cui: str, name: str) -> list[list[OpenPlace]]:
        """The places that a name may take, those that it fits best first; places of one list fit equally well."""
        from mentionforge.generation.wording import head_noun, is_plural

        look = (self.types.get(cui, frozenset()), is_plural(name), head_noun(name))
        if look not in self._ranked:
            levels: defaultdict[tuple[bool, ...], list[OpenPlace]] = defaultdict(list)
            for other, places in self.by_look.items():
                same = (not look[0].isdisjoint(other[0]), look[1] == other[1], look[2] == other[2])
                if all(agrees or demand != "required" for agrees, demand in zip(same, self.demands, strict=True)):
                    levels[tuple(agrees and demand == "preferred" for agrees, demand in zip(same, self.demands, strict=True))].extend(places)
            self._ranked[look] = [levels[level] for level in sorted(levels, reverse=True)]
        return self._ranked[look]


def places_of(sentences: Iterable[TrainingSentence], share: float, seed: int, counts: Counter[str]) -> list[OpenPlace]:
    """The mentions that may give way.

    Args:
        sentences: Training sentences.
        share: Share of these mentions that is drawn.
        seed: Seed of the draw.
        counts: Output: numbers of mentions that may not, by reason.
    """
    from mentionforge.generation.matching.names import is_case_insensitive
    from mentionforge.generation.prompts import seed_of

    places = []
    for sentence in sentences:
        for mention in sentence.mentions:
            around = sentence.document[max(0, mention.start - 1) : mention.start] + sentence.document[mention.end : mention.end + 1]
            if not mention.cuis:
                reason = "without a concept"
            elif mention.composite:
                reason = "of several concepts"
            elif any(mention.overlaps(other) for other in sentence.mentions if other is not mention):
                reason = "that share text with another"
            elif mention.abbreviation or not is_case_insensitive(mention.surface):
                reason = "that are abbreviations"
            elif any(_explains(sentence.document, mention, other) for other in sentence.mentions):
                reason = "whose abbreviation follows"
            elif any(character.isalnum() or character in "-‐‑_" for character in around):
                reason = "inside a longer word"
            elif seed_of(seed, "share", mention.mention_id) >= share * 2**31:
                reason = "not drawn (share)"
            else:
                places.append(OpenPlace(sentence, mention))
                continue
            counts[reason] += 1
    return places


def _explains(document: str, mention: TrainingMention, other: TrainingMention) -> bool:
    """Whether a mention is directly followed by its abbreviation in brackets, which another name would make wrong."""
    return mention.cuis == other.cuis and mention.end < other.start and document[mention.end : other.start].strip() in ("(", "[")


def plans(concept: Concept, names: Sequence[str], most: int, places: Places, settings: ReplacementGenerator, case: Case) -> Iterator[tuple[int, Plan]]:
    """Number and plan of each note of a concept, from 0. A number without a place that is left and fits gives none; each place is used once."""
    from mentionforge.generation.prompts import seed_of
    from mentionforge.text import normalize_surface

    used: set[str] = set()
    own = settings.by == "synonym"
    for number in range(most):
        name = names[number % len(names)]
        key = normalize_surface(name)
        rng = random.Random(seed_of(settings.seed, concept.cui, number))
        for level in places.ranked(concept.cui, name):
            first = rng.randrange(len(level))
            for place in (*level[first:], *level[:first]):
                mention = place.mention
                if (concept.cui in mention.cuis) != own or mention.mention_id in used or (own and normalize_surface(mention.surface) == key):
                    continue
                used.add(mention.mention_id)
                yield number, plan(place, name, settings.fit, case)
                break
            else:
                continue
            break


def plan(place: OpenPlace, name: str, fit: Fit, case: Case) -> Plan:
    """The plan that puts a name into a place."""
    import re

    from mentionforge.generation import wording

    sentence, mention = place.sentence, place.mention
    written = case.write(name) if fit.case == "running_text" else name
    before = sentence.document[sentence.span[0] : mention.start]
    if fit.case == "running_text" and not any(map(str.isalnum, before)):
        written = wording.capitalized(written)
    edits: tuple[tuple[int, int, str], ...] = ()
    if fit.article and (match := re.search(r"(?:^A|(?<!\w)a)(n?)\s+$", before)):
        start, new = sentence.span[0] + match.start(), wording.article(written)
        alone = all(other.end <= start or start + 1 + len(match[1]) <= other.start for other in sentence.mentions)  # hepatitis A is a name
        edits = ((start + 1, start + 1 + len(match[1]), new[1:]),) if alone and new[1:] != match[1] else ()
    kept = {(m.start, m.end): m.cuis[0] if len(m.cuis) == 1 and not m.composite else "" for m in sentence.mentions if m is not mention}
    return Plan(sentence.doc_id, sentence.span, (mention.start, mention.end), name, written, edits, tuple((*span, cui) for span, cui in sorted(kept.items())))


# ---------------------------------------------------------------------------------------------------------------- tables


def make_prompts(settings: ReplacementGenerator, spec: Path, kb: Path, corpus: Path, mentions: Path | None, out: Path) -> None:
    """Write a plan for each note, as a row of `prompts`.

    Raises:
        UserError: No name fits a mention of the training split.
    """
    from mentionforge import tables
    from mentionforge.generation import concepts
    from mentionforge.generation.left_out import write as write_left_out
    from mentionforge.generation.prompts import seed_of
    from mentionforge.generation.training_sentences import read_training_split, training_sentences
    from mentionforge.generation.wording import Case
    from mentionforge.progress import say
    from mentionforge.provenance import stamp

    selected = concepts.select(kb, settings.concepts, mentions)
    known = concepts.load(kb)
    types = {row["cui"]: frozenset(row["semantic_types"]) for row in tables.read(tables.CONCEPTS, kb / "concepts.parquet").to_pylist()}
    counts: Counter[str] = Counter()
    sentences = training_sentences(*read_training_split(corpus), counts)
    places = places_of(sentences, settings.share, settings.seed, counts)
    case = Case((s.document[slice(*s.span)] for s in sentences), (name for concept in known.values() for name in concept.names))
    grouped = Places(places, types, settings.fit)
    own: defaultdict[str, list[OpenPlace]] = defaultdict(list)
    for place in places if settings.by == "synonym" else ():
        for cui in place.mention.cuis:
            own[cui].append(place)
    rows, left_out = [], []
    for cui in selected:
        concept = known[cui]
        names = names_of(concept, settings.names)
        most = settings.notes_per_concept or len(names)
        open_to = Places(own[cui], types, settings.fit) if settings.by == "synonym" else grouped
        made = list(plans(concept, names, most, open_to, settings, case)) if names else []
        for number, one in made:
            note_id = f"{cui}-{number}"
            made_row = {"note_id": note_id, "cui": cui, "prompt": one.prompt(), "has_definition": concept.definition is not None}
            rows.append(made_row | {"seed": seed_of(settings.seed, cui, number)})
        if len(made) < (most or 1):
            left_out.append((cui, (most or 1) - len(made), "no mention that fits is left" if names else "no name to write"))
    if not rows:
        raise UserError("no replacement", str(corpus / "mentions.parquet"), "no name fits a mention of the training split", "widen concepts, names or fit")
    inputs = {"spec": spec, **{name: corpus / f"{name}.parquet" for name in ("documents", "mentions")}, **concepts.tables_of(kb)}
    tables.write(tables.PROMPTS, out, rows, stamp("generation prompts", inputs, counts=dict(sorted(counts.items()))))
    write_left_out(out, left_out)
    say(f"{len(places):,} mentions may give way; not those " + "; ".join(f"{why} ({n:,})" for why, n in sorted(counts.items())))
    say(f"{len(rows):,} notes of {len({row['cui'] for row in rows}):,} of {len(selected):,} concepts")


def names_of(concept: Concept, which: str) -> list[str]:
    """The names of a concept that are written, each once in any case, the preferred one first."""
    from mentionforge.generation.wording import reads_like_text

    names = [concept.preferred] if which == "preferred" else [name for name in concept.names if which == "all" or reads_like_text(name)]
    return list({name.casefold(): name for name in reversed(names)}.values())[::-1]


def make_notes(settings: ReplacementGenerator, spec: Path, prompts: Path, corpus: Path, out: Path) -> None:
    """Write the table `notes`, with finish_reason `control`; `tokens` counts words.

    Raises:
        UserError: A plan's document is not in the training split.
    """
    from mentionforge import tables
    from mentionforge.generation.training_sentences import read_training_split
    from mentionforge.progress import say
    from mentionforge.provenance import stamp

    name = json.loads(spec.read_text(encoding="utf-8"))["name"]
    texts = {row["doc_id"]: row["text"] for row in read_training_split(corpus)[0]}
    rows = []
    for row in tables.read(tables.PROMPTS, prompts).to_pylist():
        planned = Plan.read(row["prompt"])
        text = _text(planned, texts, prompts)
        note = {"generator": name, "text": text, "finish_reason": "control", "tokens": len(text.split())}
        rows.append({key: row[key] for key in ("note_id", "cui", "prompt", "seed")} | note)
    inputs = {"spec": spec, "prompts": prompts, "documents": corpus / "documents.parquet"}
    tables.write(tables.NOTES, out, rows, stamp("generation control", inputs))
    say(f"{len(rows):,} notes of {settings.corpus}")


def _text(planned: Plan, texts: Mapping[str, str], prompts: Path) -> str:
    if planned.document not in texts:
        raise UserError("unknown document", str(prompts), f"{planned.document} is not in the training split", "delete the file and rerun the workflow")
    return planned.text(texts[planned.document])
