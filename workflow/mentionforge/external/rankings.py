"""Read rankings of concepts that another system made for the gold mentions of a corpus, and write them as those of a linker.

In: the spec and prediction files of an external linker, a corpus, and its knowledge base. Out: predictions of test mentions with a concept, and
calibration.parquet with those of all other dev and test mentions (both `tables.LINKED`). Knows nothing of scores and of other linkers.
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
from mentionforge.corpora.build import MappedIds
from mentionforge.corpora.concepts import ConceptMap, read_id_map
from mentionforge.corpora.settings import Corpus
from mentionforge.errors import UserError
from mentionforge.external.answers import Prediction, PredictionFiles, report_unknown, texts_of
from mentionforge.external.settings import TABLE
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.linkers.external import ExternalLinker
from mentionforge.normalization.search import TOP
from mentionforge.progress import say
from mentionforge.specs import read_spec
from mentionforge.text import Span

VERSION = 1
"""Version of the part external.rankings; raise it if earlier results would be wrong (mentionforge.versions)."""

CODE = re.compile(r"(?=.*\d)[\w.:/+-]{1,40}")
"""Unknown ids that messages may show: codes with a digit and no space. Anything else may be a name, which may be licensed text."""

NIL = ("",)
"""Ids of a candidate that means: no concept."""


@dataclass(frozen=True)
class ExternalCandidate:
    """One candidate of a mention's ranking, as published."""

    ids: tuple[str, ...]
    score: float | None
    where: str


@dataclass
class MentionPredictions:
    """The predictions for one mention, of one kind only.

    Attributes:
        ranked: Candidates by rank.
        scored: Candidates with scores but no ranks, by ids.
        whole: One whole ranking.
    """

    ranked: dict[int, ExternalCandidate] = field(default_factory=dict)
    scored: dict[tuple[str, ...], ExternalCandidate] = field(default_factory=dict)
    whole: list[ExternalCandidate] = field(default_factory=list)

    def add(self, prediction: Prediction) -> bool:
        """Add a prediction; return False if it repeats an earlier one.

        Raises:
            UserError: It contradicts an earlier one.
        """
        scores = prediction.scores or (None,) * len(prediction.ranking or ())
        candidates = [ExternalCandidate(ids, score, prediction.where) for ids, score in zip(prediction.ranking or (), scores, strict=True)]
        if prediction.rank is not None:
            self._check_kind(self.ranked, prediction.where)
            first = self.ranked.setdefault(prediction.rank, candidates[0])
        elif prediction.scores is not None and len(candidates) == 1:
            self._check_kind(self.scored, prediction.where)
            first = self.scored.setdefault(candidates[0].ids, candidates[0])
        else:
            self._check_kind(self.whole, prediction.where)
            if self.whole:
                if [(c.ids, c.score) for c in self.whole] != [(c.ids, c.score) for c in candidates]:
                    raise _contradiction(prediction.where, self.whole[0].where, "; give several candidates of a mention a rank or a score")
                return False
            self.whole = candidates
            return True
        if (first.ids, first.score) != (candidates[0].ids, candidates[0].score):
            raise _contradiction(prediction.where, first.where, f" for rank {prediction.rank}" if prediction.rank is not None else "")
        return first is candidates[0]

    def _check_kind(self, candidates_of_kind: Any, where: str) -> None:
        other = next((kind for kind in (self.ranked, self.scored, self.whole) if kind and kind is not candidates_of_kind), None)
        if other:
            first = other[0] if isinstance(other, list) else next(iter(other.values()))
            raise _contradiction(where, first.where, "; give all of its candidates a rank, or a score, or neither")

    def ranking(self) -> list[ExternalCandidate]:
        """The candidates, best first: by rank, else by score; equal scores keep the order of the file."""
        if self.ranked:
            return [self.ranked[rank] for rank in sorted(self.ranked)]
        return self.whole or sorted(self.scored.values(), key=lambda c: -(c.score or 0.0))


def _contradiction(where: str, before: str, more: str) -> UserError:
    return UserError("mention answered twice", where, f"{before} says something else about the same mention{more}", "answer each mention once")


class EvaluatedMentions:
    """The gold mentions of a corpus, by id and by span."""

    def __init__(self, mentions: Iterable[Mapping[str, Any]]) -> None:
        """`mentions`: rows of `tables.MENTIONS`."""
        self.rows = {row["mention_id"]: row for row in mentions}
        self._by_span: dict[tuple[str, Span], list[str]] = defaultdict(list)
        for mention_id, row in self.rows.items():
            self._by_span[row["doc_id"], _hull(_pieces(row))].append(mention_id)

    def mention_ids(self, prediction: Prediction) -> list[str]:
        """Ids of the mentions that a prediction is for; empty: the corpus has no such mention.

        Without a mention id these are all mentions with the same pieces, or else all with the same first and last character.

        Raises:
            UserError: The prediction has the id of one mention and the span of another.
        """
        if prediction.mention_id:
            row = self.rows.get(prediction.mention_id)
            if row and prediction.pieces and (row["doc_id"], _hull(_pieces(row))) != (prediction.doc_id, _hull(prediction.pieces)):
                position = f"{row['doc_id']} {_format_spans(_pieces(row))}"
                why = f"mention {prediction.mention_id} is at {position}, not at {prediction.doc_id} {_format_spans(prediction.pieces)}"
                raise UserError("mention at another place", prediction.where, why, "correct the id or the offsets")
            return [prediction.mention_id] if row else []
        ids = self._by_span.get((prediction.doc_id, _hull(prediction.pieces)), [])
        return [m for m in ids if _pieces(self.rows[m]) == prediction.pieces] or ids

    def surfaces(self) -> dict[tuple[str, Span], set[str]]:
        """Surfaces of discontinuous mentions, by document and span from first to last character."""
        split_mentions = {span: [self.rows[m] for m in ids if len(self.rows[m]["spans"]) > 1] for span, ids in self._by_span.items()}
        return {span: {row["surface"] for row in rows_of_span} for span, rows_of_span in split_mentions.items() if rows_of_span}


def _pieces(row: Mapping[str, Any]) -> tuple[Span, ...]:
    return tuple((s["start"], s["end"]) for s in row["spans"])


def _hull(pieces: Sequence[Span]) -> Span:
    return pieces[0][0], pieces[-1][1]


def _format_spans(pieces: Sequence[Span]) -> str:
    return ",".join(f"{start}-{end}" for start, end in pieces)


def read_rankings(spec: Path, path: Path, corpus: Path, corpus_spec: Path, kb: Path, out: Path, calibration: Path) -> dict[str, Any]:
    """Read the rankings of an external linker, check them, and write them as `tables.LINKED`.

    Each test mention needs one prediction, by mention_id or by span; those for dev are optional, and those for train are counted and dropped.
    Ids are mapped to CUIs like the ids of the corpus. An id with several CUIs takes as many ranks, with one entry. An id without a concept in the
    knowledge base keeps its rank, as a wrong answer. "None", "-" and the like (`concept_ids.NO_ID`) mean that the mention has no concept: it gets no
    rows, like a mention for which a linker finds nothing. An unscored mention without a prediction gets one row in `calibration`, without a concept and
    with an infinite score, so that it never counts as a correct NIL.

    Args:
        spec: Spec of the linker.
        path: File or folder with its predictions for this corpus.
        corpus: Folder with documents.parquet and mentions.parquet.
        corpus_spec: Spec of the corpus, for how ids are mapped.
        kb: Folder with names.parquet, xrefs.parquet and retired.parquet.
        out: File to write: predictions of test mentions that have a concept.
        calibration: File to write: predictions of dev mentions, and of test mentions without a concept.

    Returns:
        The counts, as in the provenance of the files.

    Raises:
        UserError: See `PredictionFiles.predictions` and `MentionPredictions.add`; a test mention without a prediction, a prediction for an unknown
            mention, a concept beside "no concept" for the same mention, or scores that rise along a ranking.
    """
    settings, of_corpus = read_spec(spec, Linker), read_spec(corpus_spec, Corpus)
    if not isinstance(settings, ExternalLinker):
        raise UserError("wrong spec", str(spec), "it is not that of an external linker", "run `snakemake`, which writes it")
    gold = EvaluatedMentions(tables.read(tables.MENTIONS, corpus / "mentions.parquet").to_pylist())
    files = PredictionFiles(settings, path, of_corpus, texts_of(corpus / "documents.parquet"), settings.id_prefix, gold.surfaces())
    predictions_of, counts, unknown = _collect(files, gold)
    counts["unknown"] = report_unknown(files, "mention" if settings.reader == TABLE else "mention or document", unknown, path)
    test_mentions = {m: row for m, row in gold.rows.items() if row["split"] == "test"}
    counts["test"] = _count_answered(test_mentions, predictions_of, settings, path)
    counts["dev"] = _count_answered({m: row for m, row in gold.rows.items() if row["split"] == "dev"}, predictions_of, None, path)
    ids = MappedIds(ConceptMap.load(kb, of_corpus.ambiguity), read_id_map(Path(of_corpus.id_map), of_corpus.id_prefix) if of_corpus.id_map else {})
    predictions: list[dict[str, Any]] = []
    calibration_rows: list[dict[str, Any]] = []
    ranked: Counter[str] = Counter(concepts=0, concepts_not_in_kb=0, ids_of_several_concepts=0, repeated_concepts=0, ranks_left_out=0)
    unknown_ids: Counter[str] = Counter()
    for mention_id, row in gold.rows.items():
        if row["split"] == "train":
            continue
        scored = row["split"] == "test" and row["cuis"]
        if mention_id in predictions_of:
            (predictions if scored else calibration_rows).extend(_linked_rows(mention_id, predictions_of[mention_id].ranking(), ids, ranked, unknown_ids))
        elif not scored:
            calibration_rows.append({"mention_id": mention_id, "rank": 1, "cui": "", "score": math.inf, "entry": ""})
    counts |= dict(ranked)
    codes = {concept: n for concept, n in unknown_ids.items() if CODE.fullmatch(concept)}
    counts["examples_not_in_kb"] = [concept for concept, _ in sorted(codes.items(), key=lambda item: (-item[1], item[0]))[:5]]
    stamp = _stamp(spec, path, settings, corpus, corpus_spec, kb, counts, of_corpus)
    tables.write(tables.LINKED, calibration, calibration_rows, stamp)
    tables.write(tables.LINKED, out, predictions, stamp)
    _say(counts)
    return counts


def _collect(files: PredictionFiles, gold: EvaluatedMentions) -> tuple[dict[str, MentionPredictions], dict[str, Any], list[tuple[str, str]]]:
    """Predictions by mention of dev and test, counts, and places of predictions for unknown mentions."""
    predictions_of: dict[str, MentionPredictions] = defaultdict(MentionPredictions)
    counts: dict[str, Any] = {"answers": 0, "repeated": 0, "of_train": 0}
    unknown: list[tuple[str, str]] = []
    for prediction in files.predictions(("concept",)):
        counts["answers"] += 1
        mention_ids = gold.mention_ids(prediction)
        if not mention_ids:
            unknown.append((prediction.where, prediction.mention_id or f"{prediction.doc_id} {_format_spans(prediction.pieces)}"))
            continue
        if gold.rows[mention_ids[0]]["split"] == "train":
            counts["of_train"] += 1
            continue
        added = [predictions_of[m].add(prediction) for m in mention_ids]
        counts["repeated"] += not all(added)
    return dict(predictions_of), counts, [*files.unknown, *unknown]


def _count_answered(
    mentions: Mapping[str, Mapping[str, Any]], predictions_of: Mapping[str, MentionPredictions], settings: ExternalLinker | None, path: Path
) -> dict[str, Any]:
    """Counts of mentions with and without predictions. `settings` hold the policy for mentions without; none: they are allowed.

    Raises:
        UserError: A mention has no prediction, and the policy is `error`; or a mention has candidates beside "no concept".
    """
    missing = [m for m in sorted(mentions) if m not in predictions_of]
    if missing and settings and settings.missing == "error":
        unmapped = sum(not mentions[m]["cuis"] for m in missing)
        first = ", ".join(missing[:5])  # ids only: text of patients must not be logged
        why = f"{len(missing):,} of {len(mentions):,}, {unmapped:,} of them without a concept: {first}{' …' if len(missing) > 5 else ''}"
        fix = "answer each once (None where the system finds no concept), or set missing: wrong, which counts them as wrong"
        raise UserError("test mentions without an answer", str(path), why, fix)
    rankings = [predictions_of[m].ranking() for m in sorted(mentions) if m in predictions_of]
    for ranking in rankings:
        if len(ranking) > 1 and any(c.ids == NIL for c in ranking):
            where = next(c.where for c in ranking if c.ids == NIL)
            raise UserError("no concept, and others beside", where, "a mention is answered by a ranking, or by no concept", "leave this candidate out")
    nil = sum(ranking[0].ids == NIL for ranking in rankings)
    return {"mentions": len(mentions), "answered": len(rankings), "no_concept": nil, "missing": len(missing), "first_missing": missing[:5]}


def _linked_rows(
    mention_id: str, ranking: Sequence[ExternalCandidate], ids: MappedIds, counts: Counter[str], unknown_ids: Counter[str]
) -> list[dict[str, Any]]:
    """Rows of `tables.LINKED` for one mention; empty for "no concept"."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    last = math.inf
    for rank, candidate in enumerate(ranking, 1):
        score = candidate.score if candidate.score is not None else 1 / rank
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
                unknown_ids[concept] += 1
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
    description = f"candidates that are no concept of the knowledge base, and so wrong{examples}"
    if 2 * counts["concepts_not_in_kb"] > counts["concepts"]:
        say(f"WARNING: {counts['concepts_not_in_kb']:,} {description}; most are: check concept and id_prefix")
    elif counts["concepts_not_in_kb"]:
        say(f"{counts['concepts_not_in_kb']:,} {description}")
    for key, meaning in (
        ("repeated", "answers that repeat an earlier one word for word"),
        ("of_train", "answers for training mentions: left out"),
        ("repeated_concepts", "candidates that stand higher in the same ranking: left out"),
        ("ranks_left_out", f"candidates beyond rank {TOP}: left out"),
    ):
        if counts[key]:
            say(f"{counts[key]:,} {meaning}")
    if counts["unknown"]["n"]:
        say(f"WARNING: {counts['unknown']['n']:,} answers for mentions that the corpus does not have: left out")
    if test["missing"]:
        say(f"WARNING: {test['missing']:,} test mentions without an answer: wrong")
