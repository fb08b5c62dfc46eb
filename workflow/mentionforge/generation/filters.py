"""Quality filters: a chain of named checks that a located note must pass; what is dropped keeps its reason.

Each filter sees the notes that those before it left and says of each why it is dropped, or nothing. In: the tables of
`locate`, the notes as written, and what a filter compares with: test documents, fine-tuning pairs, an encoder. Out: located,
mentions and rejected .parquet, funnel.json and funnel.svg, filters.csv, diversity.csv, and examples.jsonl, with up to 20 dropped
notes of each filter for a person to read. Texts go to no log; where a knowledge base or corpus is licensed, examples name the note only.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import config, tables
from mentionforge.config import read_spec
from mentionforge.errors import UserError
from mentionforge.generation import concepts, markers
from mentionforge.generation import funnel as funnels
from mentionforge.progress import say
from mentionforge.provenance import sha256_paths, stamp, versions
from mentionforge.text import normalize_surface

VERSION = 2
"""Of the part generation.filter: raise it where earlier results would be wrong (mentionforge.versions)."""

VERSIONS = {
    "parse": 1,
    "length": 1,
    "refusal": 1,
    "language": 1,
    "repetition": 1,
    "prompt_echo": 1,
    "near_duplicate": 1,
    "leakage": 1,
    "memorization": 1,
    "contradiction": 1,
    "agreement": 2,
}
"""Of the parts filter.*: raise that of one where its earlier results would be wrong (mentionforge.versions)."""

EXAMPLES = 20
"""Dropped notes kept for reading, per filter."""

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
"""Phrases, in any case, in which a model declines or speaks of itself rather than of a patient."""

RESIDUE = re.compile(
    r"<\|[^|>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|\ufffd|[\x00-\x08\x0b-\x1f]|</?(?:div|span|p|br|html|body|b|i)\b[^>]{0,40}>|^\s*Instruction:", re.I | re.M
)
"""Markup that is no part of a note: tokens of chat templates, HTML, undecodable and control characters, labels of the plain form."""

_TOKEN = re.compile(r"\w+")


@dataclass(frozen=True)
class Note:
    """A located note as filters see it."""

    note_id: str
    cui: str
    prompt: str
    raw: str
    text: str
    mentions: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]
    """Words of the text, case-folded, without punctuation."""


@dataclass
class Surroundings:
    """What filters compare with; each is read only where a filter of the chain needs it.

    Attributes:
        known: Concepts of the knowledge base.
        test_texts: Texts of the test documents.
        completions: Completions of the fine-tuning pairs.
        encoder: Stamp of the encoder's weights, and its settings.
        disagreeing: Mentions (note id, start) that the filter `agreement` drops from notes it keeps; filled by it.
    """

    known: Mapping[str, concepts.Concept]
    test_texts: Sequence[str] = ()
    completions: Sequence[str] = ()
    encoder: tuple[Path, config.NoteEncoder] | None = None
    disagreeing: set[tuple[str, int]] = field(default_factory=set)


Reasons = dict[str, str]
"""Why notes are dropped, by note id; never with text of a knowledge base or corpus."""


def word_list(text: str) -> tuple[str, ...]:
    """Words of a text, case-folded, without punctuation."""
    return tuple(_TOKEN.findall(text.casefold()))


def grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All word n-grams, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


# -------------------------------------------------------------------------------------------------------- the filters


def parse(notes: Sequence[Note], settings: config.Parse, _: Surroundings) -> Reasons:
    """Markup that is left once the tags are taken off; tags that are missing, if they are required."""
    found = {}
    for note in notes:
        residue = RESIDUE.search(note.text)
        if residue:
            found[note.note_id] = f"markup at character {residue.start()}: {residue[0].strip()!r}"
        elif settings.require_tags and not any(tag.closed for tag in markers.strip(note.raw)[1]):
            found[note.note_id] = "no closed tag"
    return found


def length(notes: Sequence[Note], settings: config.Length, _: Surroundings) -> Reasons:
    """Too few or too many words."""
    counts = {note.note_id: len(note.words) for note in notes}
    return {i: f"{n} words" for i, n in counts.items() if not settings.min_words <= n <= settings.max_words}


def refusal(notes: Sequence[Note], settings: config.Refusal, _: Surroundings) -> Reasons:
    """A phrase in which the model declines or speaks of itself."""
    phrases = [*REFUSALS, *(phrase.casefold() for phrase in settings.phrases)]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, phrases))})(?!\w)")
    hits = {note.note_id: pattern.search(note.text.casefold().replace("’", "'")) for note in notes}
    return {i: f"says {hit[0]!r}" for i, hit in hits.items() if hit}


def language(notes: Sequence[Note], settings: config.Language, _: Surroundings) -> Reasons:
    """Another language, as py3langid identifies it."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found = {}
    for note in notes:
        if len(note.words) < settings.min_words:
            continue
        code, probability = identifier.classify(note.text)
        if code != settings.language and probability >= settings.probability:
            found[note.note_id] = f"{code}, probability {probability:.2f}"
    return found


def repetition(notes: Sequence[Note], settings: config.Repetition, _: Surroundings) -> Reasons:
    """N-grams that the note said before."""
    found = {}
    for note in notes:
        all_of_them = grams(note.words, settings.n)
        share = 1 - len(set(all_of_them)) / len(all_of_them) if all_of_them else 0.0
        if share > settings.share:
            found[note.note_id] = f"{100 * share:.0f} % of the {settings.n}-grams are repetitions"
    return found


def prompt_echo(notes: Sequence[Note], settings: config.PromptEcho, _: Surroundings) -> Reasons:
    """N-grams that the prompt said."""
    found = {}
    for note in notes:
        said = set(grams(word_list(markers.strip(note.prompt)[0]), settings.n))
        own = grams(note.words, settings.n)
        share = sum(gram in said for gram in own) / len(own) if own else 0.0
        if share > settings.share:
            found[note.note_id] = f"{100 * share:.0f} % of the {settings.n}-grams are the prompt's"
    return found


def near_duplicate(notes: Sequence[Note], settings: config.NearDuplicate, _: Surroundings) -> Reasons:
    """Estimated Jaccard similarity to an earlier note that is kept, by MinHash; across concepts the mentions are masked."""
    from datasketch import MinHash, MinHashLSH

    indexes: dict[str, Any] = {}
    sketches: dict[str, Any] = {}
    found = {}
    for note in notes:
        words = note.words
        if settings.across_concepts:
            text = note.text
            for mention in sorted(note.mentions, key=lambda m: -m["start"]):
                text = f"{text[: mention['start']]} mention {text[mention['end'] :]}"
            words = word_list(text)
        sketch = MinHash(num_perm=settings.permutations, seed=1)
        sketch.update_batch([" ".join(gram).encode() for gram in grams(words, settings.n)] or [" ".join(words).encode()])
        index = indexes.setdefault("" if settings.across_concepts else note.cui, MinHashLSH(threshold=settings.similarity, num_perm=settings.permutations))
        like = [(sketch.jaccard(sketches[other]), other) for other in index.query(sketch)]
        similarity, other = max(like, key=lambda pair: (pair[0], pair[1]), default=(0.0, ""))
        if similarity >= settings.similarity:
            found[note.note_id] = f"similarity {similarity:.2f} to {other}"
        else:
            sketches[note.note_id] = sketch
            index.insert(note.note_id, sketch)
    return found


def leakage(notes: Sequence[Note], settings: config.Leakage, around: Surroundings) -> Reasons:
    """N-grams of a test document."""
    return _shared(notes, around.test_texts, settings.n, "a test document")


def memorization(notes: Sequence[Note], settings: config.Memorization, around: Surroundings) -> Reasons:
    """N-grams of a fine-tuning completion."""
    return _shared(notes, [markers.strip(text)[0] for text in around.completions], settings.n, "a fine-tuning pair")


def _shared(notes: Sequence[Note], texts: Iterable[str], n: int, what: str) -> Reasons:
    forbidden = {gram for text in texts for gram in grams(word_list(text), n)}
    found = {}
    for note in notes:
        shared = [i for i, gram in enumerate(grams(note.words, n)) if gram in forbidden]
        if shared:  # where, not what: the text may be a patient's
            found[note.note_id] = f"{len(shared)} {n}-grams of {what}, the first at word {shared[0] + 1}"
    return found


def contradiction(notes: Sequence[Note], settings: config.Contradiction, around: Surroundings) -> Reasons:
    """A tagged name of another concept; or, if asked for, a mention inside a longer name of another concept."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for concept in around.known.values():
        for name in concept.names:
            owners[normalize_surface(name)].add(concept.cui)
    longest = max((name.count(" ") + 1 for name in owners), default=0)
    found = {}
    for note in notes:
        text, tagged = markers.strip(note.raw)
        for tag in tagged:
            if any(m["start"] < tag.end and tag.start < m["end"] for m in note.mentions):
                continue  # a shorter name inside a mention of the concept itself
            others = owners.get(normalize_surface(text[tag.start : tag.end]), set())
            if tag.closed and others and note.cui not in others:
                found[note.note_id] = f"tagged at character {tag.start}: a name of {min(others)}"
                break
        if settings.untagged and note.note_id not in found and note.mentions:
            larger = _inside(note, owners, longest)
            if larger:
                found[note.note_id] = larger
    return found


def _inside(note: Note, owners: Mapping[str, set[str]], longest: int) -> str | None:
    """Whether the first mention is part of a longer name that is none of the note's concept."""
    first = min(note.mentions, key=lambda m: m["start"])
    spans = [m.span() for m in _TOKEN.finditer(note.text)]
    touched = [i for i, (a, b) in enumerate(spans) if a < first["end"] and first["start"] < b]
    for begin in range(max(0, touched[-1] - longest + 1), touched[0] + 1):
        for end in range(min(len(spans), begin + longest), touched[-1], -1):
            if end - begin > len(touched):
                others = owners.get(normalize_surface(note.text[spans[begin][0] : spans[end - 1][1]]), set())
                if others and note.cui not in others:
                    return f"mention at character {first['start']} is part of a name of {min(others)}"
    return None


def agreement(notes: Sequence[Note], settings: config.Agreement, around: Surroundings) -> Reasons:
    """Mentions whose concept is not among the first k by the encoder's similarity to all names; notes left without any are dropped."""
    import faiss
    import numpy as np

    from mentionforge.encoders import Encoder
    from mentionforge.normalization.ties import EQUAL, levelled

    assert around.encoder, "the rule gives the encoder where it is needed"
    weights, chosen = around.encoder
    names = sorted((normalize_surface(name), concept.cui) for concept in around.known.values() for name in concept.names)
    mentions = [(i, mention) for i, note in enumerate(notes) for mention in note.mentions]
    if not mentions:
        return {}
    model = Encoder(weights, chosen.pooling, chosen.max_tokens, chosen.batch_size, markers=chosen.markers)
    distinct = sorted({name for name, _ in names})
    if settings.by == "context":
        windows = model.contexts([note.text for note in notes], [(i, [(m["start"], m["end"])]) for i, m in mentions])
    else:
        windows = model.strings([normalize_surface(m["surface"]) for _, m in mentions])
    # An encoder of marked mentions reads a name as a mention that is its own context, as a `context` linker does.
    marked = settings.by == "context" and model.markers is not None
    inputs = model.contexts(distinct, [(i, [(0, len(name))]) for i, name in enumerate(distinct)]) if marked else model.strings(distinct)
    vectors = model.encode(inputs, "names embedded").dense()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    queries = model.encode(windows, "mentions embedded")
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, cui in names:
        owners[name].append(cui)
    # A concept's rank is 1 + the number of other concepts with a more similar name. Concepts that share the name do not outrank it.
    depth = min(len(distinct), 64 * settings.k)
    similarity, rows = index.search(queries.vectors, depth)
    ranks: list[dict[str, int]] = []
    # Equal up to float noise is equal, whatever is asked in the same search.
    levels = levelled(np.repeat(np.arange(len(rows)), depth), similarity.ravel().astype(np.float64), np.full(len(rows), EQUAL)).reshape(similarity.shape)
    for scores, found in zip(levels, rows, strict=True):
        best: dict[str, float] = {}
        for score, row in zip(scores.tolist(), found.tolist(), strict=True):
            for cui in owners[distinct[row]]:
                best.setdefault(cui, score)
        ordered = sorted(best.values(), reverse=True)
        ranks.append({cui: 1 + ordered.index(score) for cui, score in best.items()})
    of_note: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for (i, mention), row in zip(mentions, queries.rows.tolist(), strict=True):
        of_note[i][mention["start"]] = ranks[row].get(notes[i].cui)
    dropped = {}
    for i, note in enumerate(notes):
        bad = {start: rank for start, rank in of_note[i].items() if rank is None or rank > settings.k}
        if len(bad) == len(of_note[i]):
            worst = min((rank for rank in bad.values() if rank), default=None)
            dropped[note.note_id] = f"rank {worst} by the {settings.by}" if worst else f"not among the nearest {depth} names by the {settings.by}"
        else:
            around.disagreeing.update((note.note_id, start) for start in bad)
    return dropped


Filter = Callable[[Sequence[Note], Any, Surroundings], Reasons]
FILTERS: dict[str, Filter] = {
    f.__name__: f for f in (parse, length, refusal, language, repetition, prompt_echo, near_duplicate, leakage, memorization, contradiction, agreement)
}
"""Filters by the name that they have in the config."""


# ---------------------------------------------------------------------------------------------------------- the stage


def filter_notes(
    spec: Path,
    kb: Path,
    prompts: Path,
    notes: Path,
    found: Path,
    out: Path,
    corpora: Sequence[Path] = (),
    pairs: Path | None = None,
    encoder: Path | None = None,
    licensed: bool = False,
) -> dict[str, Any]:
    """Run a generator's chain of filters over its located notes and write what is left, what is not and why.

    Args:
        spec: Spec file of the generator, part `filter`.
        kb: Folder of the knowledge base's tables.
        prompts: Table `prompts`.
        notes: Table `notes`.
        found: Folder with located, mentions and rejected .parquet and funnel.json of `locate`.
        out: Folder to write to.
        corpora: Folders of the corpora whose test documents the filter `leakage` compares.
        pairs: Table `pairs`, for the filter `memorization`.
        encoder: Stamp of the encoder's weights, for the filter `agreement`.
        licensed: Leave texts out of the examples: a knowledge base or corpus of the generator is licensed.

    Returns:
        The funnel (see `mentionforge.generation.funnel`) with `filters`, notes in and out of each, and `diversity`.
    """
    generator: config.Generator = read_spec(spec)
    located = tables.read(tables.LOCATED, found / "located.parquet").to_pylist()
    mentions = tables.read(tables.SYNTHETIC_MENTIONS, found / "mentions.parquet").to_pylist()
    rejected = tables.read(tables.REJECTED, found / "rejected.parquet").to_pylist()
    written = {row["note_id"]: row for row in tables.read(tables.NOTES, notes).to_pylist()}
    known = concepts.load(kb)
    of_note: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for mention in mentions:
        of_note[mention["note_id"]].append(mention)
    left = [
        Note(
            row["note_id"],
            row["cui"],
            written[row["note_id"]]["prompt"],
            written[row["note_id"]]["text"],
            row["text"],
            tuple(of_note[row["note_id"]]),
            word_list(row["text"]),
        )
        for row in located
    ]
    around = Surroundings(known, test_texts=[text for folder in corpora for text in _test_texts(folder)])
    if pairs:
        around.completions = tables.read(tables.PAIRS, pairs)["completion"].to_pylist()
    if encoder and generator.encoder:
        around.encoder = (encoder, generator.encoder)
    chain = generator.filters.chain()
    if generator.filters.leakage and not around.test_texts:
        raise UserError("no test document", ", ".join(map(str, corpora)), "filters.leakage has nothing to compare with", "name corpora with a test split")
    counted, examples = [], []
    for name, settings in chain:
        reasons = FILTERS[name](left, settings, around)
        counted.append((name, len(left), len(left) - len(reasons)))
        say(f"{name}: {len(left):,} in, {len(left) - len(reasons):,} out")
        rejected += [{"note_id": note.note_id, "cui": note.cui, "reason": name} for note in left if note.note_id in reasons]
        examples += list(_examples(name, [note for note in left if note.note_id in reasons], reasons, licensed))
        left = [note for note in left if note.note_id not in reasons]
    kept = {note.note_id for note in left}
    located = [row for row in located if row["note_id"] in kept]
    mentions = [m for m in mentions if m["note_id"] in kept and (m["note_id"], m["start"]) not in around.disagreeing]
    names = {cui: {normalize_surface(name) for name in concept.names} for cui, concept in known.items()}

    inputs = {"spec": spec, "prompts": prompts, "notes": notes, "located": found / "located.parquet", **concepts.tables_of(kb)}
    inputs |= ({"pairs": pairs} if pairs else {}) | ({"encoder": encoder} if encoder else {})
    made = stamp(
        "generation filter",
        inputs,
        corpora=[sha256_paths([folder / "documents.parquet"]) for folder in corpora],
        chain={name: settings.model_dump() for name, settings in chain},
        versions=versions("datasketch", "py3langid"),
    )
    tables.write(tables.LOCATED, out / "located.parquet", located, made)
    tables.write(tables.SYNTHETIC_MENTIONS, out / "mentions.parquet", mentions, made)
    tables.write(tables.REJECTED, out / "rejected.parquet", rejected, made)
    before = json.loads((found / "funnel.json").read_text(encoding="utf-8"))
    unlisted = sum(normalize_surface(m["surface"]) not in names[m["cui"]] for m in mentions)
    prompted = tables.read(tables.PROMPTS, prompts)["cui"].to_pylist()
    funnel = funnels.funnel(funnels.Counted(prompted, len(written), before["finished_by_length"], before["with_tags"], unlisted), mentions, rejected)
    rows = funnels.diversity(located, mentions, names)
    if chain:
        funnel["filters"] = {name: {"in": into, "out": kept_of} for name, into, kept_of in counted}
        funnel["mentions_dropped_by_agreement"] = len(around.disagreeing)
    if rows:
        funnel["diversity"] = funnels.averages(rows)
    funnels.write_json(out / "funnel.json", funnel)
    funnels.write_csv(out / "filters.csv", ("filter", "in", "out"), [{"filter": name, "in": a, "out": b} for name, a, b in counted])
    funnels.write_csv(out / "diversity.csv", funnels.DIVERSITY, rows)
    funnels.picture(out / "funnel.svg", funnels.steps(funnel, counted), "notes left after each step")
    _write_lines(out / "examples.jsonl", examples)
    reasons_of = Counter(row["reason"] for row in rejected)
    say(f"{len(located):,} of {len(written):,} notes kept; dropped: {', '.join(f'{n:,} {r}' for r, n in reasons_of.most_common()) or 'none'}")
    return funnel


def _test_texts(folder: Path) -> Iterator[str]:
    for row in tables.read(tables.DOCUMENTS, folder / "documents.parquet").to_pylist():
        if row["split"] == "test":
            yield row["text"]


def _examples(name: str, dropped: Sequence[Note], reasons: Reasons, licensed: bool) -> Iterator[dict[str, str]]:
    """Up to `EXAMPLES` dropped notes, drawn with a fixed seed, in the order of note ids."""
    chosen = dropped if len(dropped) <= EXAMPLES else random.Random(name).sample(list(dropped), EXAMPLES)
    for note in sorted(chosen, key=lambda n: n.note_id):
        yield {"filter": name, "note_id": note.note_id, "why": reasons[note.note_id]} | ({} if licensed else {"text": note.raw})


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)
