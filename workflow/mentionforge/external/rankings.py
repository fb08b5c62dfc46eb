"""Rankings that another system made for the gold mentions of a corpus: checked, mapped to CUIs, and written as those of a linker.

Every mention of the test split is answered once: by its mention_id, or by the span from its first to its last character. Gold mentions with the
same span have the same answer (an answer that gives pieces goes to those with these pieces, if there are any). Answers for dev are read where they
are given; those for train are counted and left out.

A ranking keeps its order: by rank, else by score (equal ones in the order of the file). Ids are mapped to CUIs as the corpus' own are, and an id
with several CUIs takes as many ranks, with one entry. An id that stands for no concept of the knowledge base keeps its rank: it is a wrong
answer. "None", "-" and the like (`concept_ids.NO_ID`) say that the mention has no concept; then it has no rows, as with linkers that find nothing.
A mention without an answer has one row in calibration.parquet if it is none of those scored, with no concept and an infinite score, so that it does
not count as rightly called NIL.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mentionforge import provenance, tables
from mentionforge.corpora.build import Ids
from mentionforge.corpora.concepts import ConceptMap, read_id_map
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.external.answers import Answer, Source, report_unknown, texts_of
from mentionforge.external.settings import TABLE
from mentionforge.normalization.linkers.external import ExternalLinker
from mentionforge.normalization.search import TOP
from mentionforge.progress import say
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 1
"""Of the part external.rankings: raise it where earlier results would be wrong (mentionforge.versions)."""

CODE = re.compile(r"(?=.*\d)[\w.:/+-]{1,40}")
"""What is shown of unknown ids: a code has a digit and no blank. A column of names holds texts, which may be licensed."""

NIL = ("",)
"""A candidate that says: no concept."""


@dataclass(frozen=True)
class Candidate:
    """One row of a mention's ranking, as the file gives it."""

    ids: tuple[str, ...]
    score: float | None
    where: str


@dataclass
class Given:
    """What a file says about one mention: candidates by rank, candidates with scores alone, or one whole ranking."""

    ranked: dict[int, Candidate] = field(default_factory=dict)
    scored: dict[tuple[str, ...], Candidate] = field(default_factory=dict)
    whole: list[Candidate] = field(default_factory=list)

    def add(self, answer: Answer) -> bool:
        """Take an answer; False if the same was there before.

        Raises:
            UserError: Something else was there before.
        """
        scores = answer.scores or (None,) * len(answer.ranking or ())
        found = [Candidate(ids, score, answer.where) for ids, score in zip(answer.ranking or (), scores, strict=True)]
        if answer.rank is not None:
            self._keep_to(self.ranked, answer.where)
            before = self.ranked.setdefault(answer.rank, found[0])
        elif answer.scores is not None and len(found) == 1:
            self._keep_to(self.scored, answer.where)
            before = self.scored.setdefault(found[0].ids, found[0])
        else:
            self._keep_to(self.whole, answer.where)
            if self.whole:
                if [(c.ids, c.score) for c in self.whole] != [(c.ids, c.score) for c in found]:
                    raise _twice(answer.where, self.whole[0].where, "; give several candidates of a mention a rank or a score")
                return False
            self.whole = found
            return True
        if (before.ids, before.score) != (found[0].ids, found[0].score):
            raise _twice(answer.where, before.where, f" for rank {answer.rank}" if answer.rank is not None else "")
        return before is found[0]

    def _keep_to(self, own: Any, where: str) -> None:
        other = next((kind for kind in (self.ranked, self.scored, self.whole) if kind and kind is not own), None)
        if other:
            first = other[0] if isinstance(other, list) else next(iter(other.values()))
            raise _twice(where, first.where, "; give all of its candidates a rank, or a score, or neither")

    def ranking(self) -> list[Candidate]:
        """The candidates, the best first."""
        if self.ranked:
            return [self.ranked[rank] for rank in sorted(self.ranked)]
        return self.whole or sorted(self.scored.values(), key=lambda c: -(c.score or 0.0))


def _twice(where: str, before: str, more: str) -> UserError:
    return UserError("mention answered twice", where, f"{before} says something else about the same mention{more}", "answer each mention once")


class Questions:
    """The gold mentions of a corpus, to be found by id and by span."""

    def __init__(self, mentions: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of tables.MENTIONS."""
        self.rows = {row["mention_id"]: row for row in mentions}
        self._at: dict[tuple[str, Span], list[str]] = defaultdict(list)
        for mention_id, row in self.rows.items():
            self._at[row["doc_id"], _hull(_pieces(row))].append(mention_id)

    def asked(self, answer: Answer) -> list[str]:
        """Ids of the mentions that an answer is for; none: the corpus has no such mention.

        Raises:
            UserError: The answer names a mention and the place of another one.
        """
        if answer.mention_id:
            row = self.rows.get(answer.mention_id)
            if row and answer.pieces and (row["doc_id"], _hull(_pieces(row))) != (answer.doc_id, _hull(answer.pieces)):
                why = f"mention {answer.mention_id} is at {row['doc_id']} {_told(_pieces(row))}, not at {answer.doc_id} {_told(answer.pieces)}"
                raise UserError("mention at another place", answer.where, why, "correct the id or the offsets")
            return [answer.mention_id] if row else []
        found = self._at.get((answer.doc_id, _hull(answer.pieces)), [])
        return [m for m in found if _pieces(self.rows[m]) == answer.pieces] or found

    def surfaces(self) -> dict[tuple[str, Span], set[str]]:
        """Surfaces of mentions in pieces, by document and the stretch around them."""
        rows = {place: [self.rows[m] for m in found if len(self.rows[m]["spans"]) > 1] for place, found in self._at.items()}
        return {place: {row["surface"] for row in own} for place, own in rows.items() if own}


def _pieces(row: Mapping[str, Any]) -> tuple[Span, ...]:
    return tuple((s["start"], s["end"]) for s in row["spans"])


def _hull(pieces: Sequence[Span]) -> Span:
    return pieces[0][0], pieces[-1][1]


def _told(pieces: Sequence[Span]) -> str:
    return ",".join(f"{start}-{end}" for start, end in pieces)


def read_rankings(spec: Path, path: Path, corpus: Path, corpus_spec: Path, kb: Path, out: Path, calibration: Path) -> dict[str, Any]:
    """Read the answers of an external linker, check them, and write them as tables.LINKED.

    Args:
        spec: Spec of the linker.
        path: File or folder with its answers for this corpus.
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Spec of the corpus, for how ids are mapped.
        kb: Folder with names.parquet, xrefs.parquet and retired.parquet.
        out: Predictions to write: mentions of the test split that have a concept.
        calibration: The others to write: mentions of dev, and those of test without a concept.

    Returns:
        The counts, as in the files' provenance.

    Raises:
        UserError: See `Source.answers` and `Given.add`; a test mention without an answer, an answer for an unknown mention, a concept beside the
            answer that there is none, or scores that rise along a ranking.
    """
    settings, of_corpus = read_spec(spec, ExternalLinker), read_spec(corpus_spec, Corpus)
    if not isinstance(settings, ExternalLinker) or not isinstance(of_corpus, Corpus):
        raise UserError("wrong spec", str(spec), "it is not that of an external linker", "run `snakemake`, which writes it")
    questions = Questions(tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist())
    source = Source(settings, path, of_corpus, texts_of(corpus / "documents.parquet"), settings.id_prefix, questions.surfaces())
    given, counts, unknown = _collect(source, questions)
    counts["unknown"] = report_unknown(source, "mention" if settings.reader == TABLE else "mention or document", unknown, path)
    wanted = {m: row for m, row in questions.rows.items() if row["split"] == "test"}
    counts["test"] = _answered(wanted, given, settings, path)
    counts["dev"] = _answered({m: row for m, row in questions.rows.items() if row["split"] == "dev"}, given, None, path)
    ids = Ids(ConceptMap.load(kb, of_corpus.ambiguity), read_id_map(Path(of_corpus.id_map), of_corpus.id_prefix) if of_corpus.id_map else {})
    predictions: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    ranked: Counter[str] = Counter(concepts=0, concepts_not_in_kb=0, ids_of_several_concepts=0, repeated_concepts=0, ranks_left_out=0)
    strange: Counter[str] = Counter()
    for mention_id, row in questions.rows.items():
        if row["split"] == "train":
            continue
        scored = row["split"] == "test" and row["cuis"]
        if mention_id in given:
            (predictions if scored else others).extend(_linked(mention_id, given[mention_id].ranking(), ids, ranked, strange))
        elif not scored:
            others.append({"mention_id": mention_id, "rank": 1, "cui": "", "score": math.inf, "entry": ""})
    counts |= dict(ranked)
    codes = {concept: n for concept, n in strange.items() if CODE.fullmatch(concept)}
    counts["examples_not_in_kb"] = [concept for concept, _ in sorted(codes.items(), key=lambda item: (-item[1], item[0]))[:5]]
    stamp = _stamp(spec, path, settings, corpus, corpus_spec, kb, counts, of_corpus)
    tables.write(tables.LINKED, calibration, others, stamp)
    tables.write(tables.LINKED, out, predictions, stamp)
    _say(counts)
    return counts


def _collect(source: Source, questions: Questions) -> tuple[dict[str, Given], dict[str, Any], list[tuple[str, str]]]:
    """What the files say about each mention of dev and test, counts, and places of answers for no mention of the corpus."""
    given: dict[str, Given] = defaultdict(Given)
    counts: dict[str, Any] = {"answers": 0, "repeated": 0, "of_train": 0}
    unknown: list[tuple[str, str]] = []
    for answer in source.answers(("concept",)):
        counts["answers"] += 1
        asked = questions.asked(answer)
        if not asked:
            unknown.append((answer.where, answer.mention_id or f"{answer.doc_id} {_told(answer.pieces)}"))
            continue
        if questions.rows[asked[0]]["split"] == "train":
            counts["of_train"] += 1
            continue
        new = [given[m].add(answer) for m in asked]
        counts["repeated"] += not all(new)
    return dict(given), counts, [*source.unknown, *unknown]


def _answered(wanted: Mapping[str, Mapping[str, Any]], given: Mapping[str, Given], settings: ExternalLinker | None, path: Path) -> dict[str, Any]:
    """Counts of the answers to some mentions; `settings` say what becomes of those without, if that matters.

    Raises:
        UserError: A mention has no answer, and the policy is `error`.
    """
    missing = [m for m in sorted(wanted) if m not in given]
    if missing and settings and settings.missing == "error":
        unmapped = sum(not wanted[m]["cuis"] for m in missing)
        first = ", ".join(missing[:5])  # no surfaces: notes of patients are not for logs
        why = f"{len(missing):,} of {len(wanted):,}, {unmapped:,} of them without a concept: {first}{' …' if len(missing) > 5 else ''}"
        fix = "answer each once (None where the system finds no concept), or set missing: wrong, which counts them as wrong"
        raise UserError("test mentions without an answer", str(path), why, fix)
    rankings = [given[m].ranking() for m in sorted(wanted) if m in given]
    for ranking in rankings:
        if len(ranking) > 1 and any(c.ids == NIL for c in ranking):
            where = next(c.where for c in ranking if c.ids == NIL)
            raise UserError("no concept, and others beside", where, "a mention is answered by a ranking, or by no concept", "leave this candidate out")
    nil = sum(ranking[0].ids == NIL for ranking in rankings)
    return {"mentions": len(wanted), "answered": len(rankings), "no_concept": nil, "missing": len(missing), "first_missing": missing[:5]}


def _linked(mention_id: str, ranking: Sequence[Candidate], ids: Ids, counts: Counter[str], strange: Counter[str]) -> list[dict[str, Any]]:
    """Rows of tables.LINKED for one mention; none where it has no concept."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    last = math.inf
    for place, candidate in enumerate(ranking, 1):
        score = candidate.score if candidate.score is not None else 1 / place
        if score > last:
            raise UserError(
                "scores rise along a ranking", candidate.where, f"{score:g} follows {last:g}", "higher is better: negate distances, or leave them out"
            )
        last = score
        for concept in candidate.ids:
            if not concept:
                continue
            mapped = ids[concept].cuis
            counts["concepts"] += 1
            counts["ids_of_several_concepts"] += len(mapped) > 1
            if not mapped:
                counts["concepts_not_in_kb"] += 1
                strange[concept] += 1
            for cui in mapped or (concept,):
                counts["repeated_concepts"] += cui in seen
                counts["ranks_left_out"] += len(seen) >= TOP and cui not in seen
                if cui not in seen and len(seen) < TOP:
                    seen.add(cui)
                    rows.append({"mention_id": mention_id, "rank": len(seen), "cui": cui, "score": score, "entry": "|".join(mapped or (concept,))})
    return rows


def _stamp(spec: Path, path: Path, settings: ExternalLinker, corpus: Path, corpus_spec: Path, kb: Path, counts: Any, of_corpus: Corpus) -> dict[str, Any]:
    inputs: dict[str, str | Path] = {"spec": spec, "corpus_spec": corpus_spec, "predictions": path}
    inputs |= {name: corpus / f"{name}.parquet" for name in ("documents", "mentions")}
    inputs |= {f"kb.{name}": kb / f"{name}.parquet" for name in ("names", "xrefs", "retired")}
    inputs |= {"id_map": Path(of_corpus.id_map)} if of_corpus.id_map else {}
    name = json.loads(spec.read_text(encoding="utf-8")).get("name", "")
    external = {"system": name, "path": str(path), "reader": settings.reader, "cite": settings.cite, "missing": settings.missing, "unknown": settings.unknown}
    return provenance.stamp("external rankings", inputs, external=external, counts=counts)


def _say(counts: Mapping[str, Any]) -> None:
    test = counts["test"]
    say(
        f"{test['answered']:,} of {test['mentions']:,} test mentions answered, {test['no_concept']:,} of them with no concept; "
        f"{counts['dev']['answered']:,} of {counts['dev']['mentions']:,} dev mentions"
    )
    examples = f": {', '.join(counts['examples_not_in_kb'])}" if counts["examples_not_in_kb"] else ", and have not the form of codes"
    strange = f"candidates that are no concept of the knowledge base, and so wrong{examples}"
    if 2 * counts["concepts_not_in_kb"] > counts["concepts"]:
        say(f"WARNING: {counts['concepts_not_in_kb']:,} {strange}; most are: check concept and id_prefix")
    elif counts["concepts_not_in_kb"]:
        say(f"{counts['concepts_not_in_kb']:,} {strange}")
    for key, told in (
        ("repeated", "answers that repeat an earlier one word for word"),
        ("of_train", "answers for training mentions: left out"),
        ("repeated_concepts", "candidates that stand higher in the same ranking: left out"),
        ("ranks_left_out", f"candidates beyond rank {TOP}: left out"),
    ):
        if counts[key]:
            say(f"{counts[key]:,} {told}")
    if counts["unknown"]["n"]:
        say(f"WARNING: {counts['unknown']['n']:,} answers for mentions that the corpus does not have: left out")
    if test["missing"]:
        say(f"WARNING: {test['missing']:,} test mentions without an answer: wrong")
