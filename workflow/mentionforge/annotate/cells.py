"""Which files of a results folder make an annotator: the trained recognizer, the linker and what it searches.

A cell is named by its path (results/recognition/CORPUS/GENERATOR/STRATEGY/RECOGNIZER/SCHEDULE/seedN, results/end_to_end/…/LINKER/INDEX,
results/normalization/CORPUS/GENERATOR/STRATEGY/LINKER/INDEX) or by the end of that path, where only one cell ends so.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import measures, tables
from mentionforge import text as units
from mentionforge.annotate.pipeline import Materials
from mentionforge.corpora.settings import Corpus
from mentionforge.entries import EXTERNAL, NONE
from mentionforge.errors import UserError
from mentionforge.external.settings import refuse_new_text
from mentionforge.gold import flatten
from mentionforge.kb.settings import Kb
from mentionforge.layout import NormalizationCell, RecognitionCell, Resources, Results
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.loaded import IndexedLinker, indexed_linker
from mentionforge.normalization.settings import Index
from mentionforge.provenance import digest, sha256_paths
from mentionforge.recognition.kinds import Recognizer
from mentionforge.recognition.kinds.dictionary import DictionaryRecognizer
from mentionforge.recognition.sentences import spans_by_document
from mentionforge.specs import read_spec

RECOGNIZED = tuple(level.name for level in fields(RecognitionCell))
METRICS = tuple(score.name for score in measures.SCORES if score.on_card)
"""What the card of a bundle tells."""
LINKED = tuple(level.name for level in fields(NormalizationCell))


@dataclass(frozen=True)
class Cell:
    """The results folder, the levels of a recognition cell and of a linking cell."""

    results: Path
    recognition: tuple[str, ...]
    linking: tuple[str, ...]


def find(given: Path, recognizer: str | None = None, linker: str | None = None, kb: str | None = None, resources: Path | None = None) -> Materials:
    """The materials of a cell.

    Args:
        given: Results folder, or a cell in it.
        recognizer: Cell or the end of its path; needed unless `given` names one or there is only one.
        linker: LINKER/INDEX, or a normalization cell; likewise.
        kb: Knowledge base; none: the corpus' own.
        resources: Folder of fetched weights; none: `resources` beside the results folder or in the working directory.

    Raises:
        UserError: No such cell, several of them, or files that are missing, with what makes them.
    """
    return load(cell_of(given, recognizer, linker), kb, resources)


def cell_of(given: Path, recognizer: str | None = None, linker: str | None = None) -> Cell:
    """The cell that is named; see `find`."""
    results, levels = _split(given)
    recognition: tuple[str, ...] = ()
    linking: tuple[str, ...] = ()
    if levels[:1] == ("recognition",):
        recognition = tuple(level for level in levels[1:] if level != "model")
    elif levels[:1] == ("end_to_end",):
        recognition, linking = levels[1:7], (*levels[1:4], *levels[7:9])
    elif levels[:1] == ("normalization",):
        linking = levels[1:]
    if recognizer or len(recognition) < len(RECOGNIZED):
        recognition = _one(results, "recognition", recognizer or "/".join(recognition), len(RECOGNIZED), "--recognizer")
    if linker and len(linker.strip("/").split("/")) == 2:
        linking = (*recognition[:3], *linker.strip("/").split("/"))
    elif linker or len(linking) < len(LINKED):
        linking = _one(results, "normalization", linker or "/".join(linking), len(LINKED), "--linker")
    return Cell(results, recognition, linking)


def _split(given: Path) -> tuple[Path, tuple[str, ...]]:
    """The results folder above a path, and the levels from there."""
    for folder in (given, *given.parents):
        if (folder / "specs").is_dir():
            return folder, given.relative_to(folder).parts
    raise UserError("no results folder", str(given), "neither it nor a folder above it holds specs/", "give --from results, or a cell of it")


def _one(results: Path, stage: str, wanted: str, depth: int, option: str) -> tuple[str, ...]:
    """The one cell of a stage whose levels include those wanted in their order."""
    base = results / stage
    pattern = "/".join(["*"] * depth)
    made = {"recognition": "predictions.parquet", "normalization": "predictions.parquet"}[stage]
    every = [p.relative_to(base).parts for p in sorted(base.glob(pattern)) if (p / made).is_file()]
    levels = Path(wanted).parts
    if stage in levels:
        levels = levels[levels.index(stage) + 1 :]
    levels = tuple(level for level in levels if level != "model")
    found = [cell for cell in every if any(cell[i : i + len(levels)] == levels for i in range(depth - len(levels) + 1))]
    found = [cell for cell in found if cell[4] != EXTERNAL] or found  # the schedule, or the index: an external system annotates nothing
    if len(found) == 1:
        return found[0]
    some = [*found, *([] if found else every)][:6]
    told = ", ".join("/".join(cell) for cell in some) or f"{stage} has none; run the workflow"
    raise UserError(f"{'several cells' if found else 'no such cell'}", f"{option} {wanted}".strip(), f"in {base}", f"give one of: {told}")


def load(cell: Cell, kb: str | None = None, resources: Path | None = None) -> Materials:
    """Read what a cell names."""
    results, corpus, recognizer = cell.results, cell.recognition[0], cell.recognition[3]
    linked_corpus, linked_generator, linked_strategy, linker, index = cell.linking
    corpus_settings: Corpus = read_spec(results / "specs" / "corpora" / f"{linked_corpus}.json", Corpus)
    kb = kb or corpus_settings.kb
    kb_settings = read_spec(_there(results / "specs" / "kbs" / f"{kb}.json"), Kb)
    places = _Places(results, resources or _resources(results), linked_corpus, linked_generator, linked_strategy, kb)
    settings = read_spec(_there(results / "specs" / "linkers" / f"{linker}.json"), Linker)
    recognizer_settings = read_spec(_there(results / "specs" / "recognizers" / f"{recognizer}.json"), Recognizer)
    for kind, name, entry in (("recognizer", recognizer, recognizer_settings), ("linker", linker, settings)):
        if entry.kind == EXTERNAL:
            refuse_new_text(kind, name)
    index_settings: Index = read_spec(_there(results / "specs" / "indexes" / f"{index}.json"), Index)
    if not (settings.searches or settings.fuses):
        raise UserError("unfit linker", f"--linker {linker}", "a reranking linker is not read here", f"give its first stage, {settings.input_linkers()[0]}")
    hybrid = settings if settings.fuses else None
    parts = [places.part(name, index_settings) for name in (settings.input_linkers() or (linker,))]
    weights: Sequence[float] = [1 / len(parts)] * len(parts)
    if hybrid and hybrid.fusion == "score":
        path = _there(results / "normalization" / Path(*cell.linking) / "predictions.parquet")
        weights = tables.provenance(path)["weights"]
    folder = results / "recognition" / Path(*cell.recognition) / "model"
    dictionary = None
    licensed = ["umls"] if kb_settings.source == "rrf" else []
    if not recognizer_settings.trains:
        of_recognizer: Corpus = read_spec(results / "specs" / "corpora" / f"{corpus}.json", Corpus)
        dictionary = _dictionary(results, recognizer_settings, corpus, of_recognizer)
        licensed += [f"corpus {corpus}"] if of_recognizer.licensed and "train" in recognizer_settings.sources else []
    elif not (folder / "recognizer.json").is_file():
        raise UserError("missing recognizer", str(folder), "it holds no recognizer.json", "run the recognition cell, or name another one")
    texts = any(part.linker.reads_text for part in parts)
    licensed += [f"corpus {linked_corpus}"] if corpus_settings.licensed and texts and "train" in index_settings.sources else []
    concepts = tables.read(tables.CONCEPTS, _there(results / "kb" / kb / "concepts.parquet"))
    kb_stamp = tables.provenance(results / "kb" / kb / "concepts.parquet")
    scores = {task: _scores(cell, task) for task in ("recognition", "normalization")}
    card = {
        "recognition": dict(zip(RECOGNIZED, cell.recognition, strict=True)),
        "linking": dict(zip(LINKED, cell.linking, strict=True)),
        "kb": {
            "name": kb,
            "source": kb_settings.source,
            "concepts": len(concepts),
            "mentionforge": kb_stamp.get("mentionforge"),
            "inputs": kb_stamp.get("inputs"),
        },
        "recognizer": {} if dictionary else {"weights": sha256_paths([folder])},
        "trained_on": {name: bool(read_spec(results / "specs" / "corpora" / f"{name}.json", Corpus).licensed) for name in sorted({corpus, linked_corpus})},
        "measured": _measured(cell, {task: table for task, (table, _) in scores.items()}),
    }
    return Materials(
        recognizer=None if dictionary else folder,
        dtype=getattr(recognizer_settings, "dtype", "auto"),
        dictionary=dictionary,
        linkers=parts,
        hybrid=hybrid,
        weights=list(weights),
        concepts=concepts,
        nil_threshold=_threshold(cell, scores["normalization"][1]),
        spell_out=corpus_settings.abbreviations != "none",
        card=card,
        licensed=sorted(set(licensed)),
        contents=digest(json.dumps([[sha256_paths([path]) for path in [*places.read, results / "kb" / kb / "concepts.parquet"]], dictionary, weights])),
    )


@dataclass(frozen=True)
class _Places:
    """Where the files of a linking cell lie."""

    results: Path
    resources: Path
    corpus: str
    generator: str
    strategy: str
    kb: str
    read: list[Path] = field(default_factory=list)
    """Files that its linkers are made of; filled by `part`."""

    @property
    def paths(self) -> Results:
        """Where files lie."""
        return Results(str(self.results))

    def part(self, linker: str, index: Index) -> IndexedLinker:
        """What a linker that searches by itself needs."""
        spec = _there(Path(self.paths.spec("linkers", linker)))
        settings = read_spec(spec, Linker)
        own = f"{linker}@{self.corpus}" if settings.trains else linker
        shared = [own] if settings.trains else self._alike(linker, settings)
        model = None
        if settings.trains:
            model = _there(Path(self.paths.encoder(linker, self.corpus)))
        elif settings.weights:
            model = _there(Path(Resources(str(self.resources)).model(settings.weights)), "give --resources, the folder of fetched weights")
        needed = "kb" in index.sources
        augmented = self.generator != NONE
        files = {
            "corpus": self._embedded([own], "corpus", self.corpus) if "train" in index.sources else None,
            "kb": self._embedded(shared, "kb", self.kb) if needed or settings.weighs_names else None,
            "names": _there(Path(self.paths.kb(self.kb, "names.parquet"))) if needed else None,
            "xrefs": _there(Path(self.paths.kb(self.kb, "xrefs.parquet"))) if needed or index.prefer_xrefs else None,
            "synthetic": self._embedded(shared, "generator", self.generator) if augmented else None,
            "chosen": _there(Path(self.paths.chosen(self.corpus, self.generator, self.strategy))) if augmented else None,
        }
        self.read.extend(path for path in (spec, model, *files.values()) if path)
        return indexed_linker(settings, index, model, **files)

    def _alike(self, linker: str, settings: Any) -> list[str]:
        """Linkers that differ from this one in reading abbreviations alone: they share embeddings of names and notes."""
        aside = {"expand_abbreviations", "steps"}
        others = sorted(path.stem for path in (self.results / "specs" / "linkers").glob("*.json"))
        alike = [o for o in others if read_spec(Path(self.paths.spec("linkers", o)), Linker).model_dump(exclude=aside) == settings.model_dump(exclude=aside)]
        return [linker, *(o for o in alike if o != linker)]

    def _embedded(self, encoders: Sequence[str], kind: str, name: str) -> Path:
        paths = [Path(self.paths.embedded(encoder, kind, name)) for encoder in encoders]
        return next((path for path in paths if path.is_file()), None) or _there(paths[0])


def _there(path: Path, fix: str = "") -> Path:
    if not path.is_file():
        raise UserError(
            "missing file", str(path), "the cell needs it", fix or "make it: snakemake PATH --configfile …, with the configuration of these results"
        )
    return path


def _resources(results: Path) -> Path:
    near = [folder / "resources" for folder in (results.absolute().parent, results.absolute().parent.parent, Path.cwd())]
    return next((folder for folder in near if (folder / "models").is_dir()), near[0])


def _dictionary(results: Path, settings: DictionaryRecognizer, corpus: str, corpus_settings: Corpus) -> dict[str, Any]:
    """The names that `recognition match` searches."""
    names: list[str] = []
    if "kb" in settings.sources:
        names += tables.read(tables.NAMES, _there(results / "kb" / corpus_settings.kb / "names.parquet"))["name"].unique().to_pylist()
    if "train" in settings.sources:
        folder = results / "corpora" / corpus
        gold = spans_by_document(row for row in tables.read(tables.MENTIONS, _there(folder / "mentions.parquet")).to_pylist() if row["split"] == "train")
        for row in tables.read(tables.DOCUMENTS, _there(folder / "documents.parquet")).to_pylist():
            words = units.words(row["text"]) if row["doc_id"] in gold else []
            flat = flatten(words, gold.get(row["doc_id"], []), corpus_settings.discontinuous)
            names += [row["text"][words[a][0] : words[b - 1][1]] for a, b in flat.spans]
    return {"names": names, "min_length": settings.min_length, "stop": list(settings.stop)}


def _scores(cell: Cell, task: str) -> tuple[pa.Table | None, pa.Table | None]:
    """The experiment's metrics of a task, and for linking the curves of thresholds; made for this cell alone if it did not score it."""
    levels = cell.recognition if task == "recognition" else cell.linking
    corpus = levels[0]
    path, nil = (cell.results / "evaluation" / kind / f"{corpus}.parquet" for kind in (task, "nil"))
    if path.is_file() and (task == "recognition" or nil.is_file()):
        return tables.read(tables.METRICS, path), tables.read(tables.NIL, nil) if task != "recognition" else None
    base = cell.results / task
    predictions = base / Path(*levels) / "predictions.parquet"
    needed = [predictions, cell.results / "corpora" / corpus / "mentions.parquet", cell.results / "corpora" / corpus / "documents.parquet"]
    if task != "recognition":
        needed.append(predictions.with_name("calibration.parquet"))
    if not all(p.is_file() for p in needed):
        return None, None
    from mentionforge.evaluation import normalization, recognition

    spec = cell.results / "specs" / "corpora" / f"{corpus}.json"
    with tempfile.TemporaryDirectory() as scratch:
        out, curves = Path(scratch) / "metrics.parquet", Path(scratch) / "nil.parquet"
        if task == "recognition":
            recognition.evaluate(needed[1].parent, spec, base, [predictions], out)
            return tables.read(tables.METRICS, out), None
        normalization.evaluate(needed[1].parent, spec, base, [predictions], out, curves)
        return tables.read(tables.METRICS, out), tables.read(tables.NIL, curves)


def _threshold(cell: Cell, curves: pa.Table | None) -> float | None:
    """The threshold for no concept that was best on dev; none without dev mentions."""
    if curves is None:
        return None
    for column, value in zip(("generator", "strategy", "linker", "index"), cell.linking[1:], strict=True):
        curves = curves.filter(pc.equal(curves[column], value))
    chosen = curves.filter(pc.and_(curves["chosen"], pc.and_(pc.equal(curves["split"], "dev"), pc.greater(curves["n"], 0))))
    return float(chosen["threshold"][0].as_py()) if len(chosen) else None


def _measured(cell: Cell, scores: Mapping[str, pa.Table | None]) -> list[dict[str, Any]]:
    """What was measured of the two cells, on the test split of their corpora."""
    found: list[dict[str, Any]] = []
    for task, levels, variant in (("recognition", cell.recognition, cell.recognition[4]), ("normalization", cell.linking, cell.linking[4])):
        wanted: dict[str, Any] = {"generator": levels[1], "strategy": levels[2], "system": levels[3], "variant": variant, "split": "test"}
        wanted |= {"seed": int(cell.recognition[5].removeprefix("seed"))} if task == "recognition" else {}
        table = scores[task]
        for row in table.to_pylist() if table is not None else ():
            if all(row[k] == v for k, v in wanted.items()) and row["metric"] in METRICS:
                found.append({k: row[k] for k in ("task", "corpus", "bucket", "metric", "value", "n")})
    return found
