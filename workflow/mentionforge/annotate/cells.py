"""Find the recognizer, linker and index of an annotator in a results folder.

In: the path of a cell (results/recognition/…/seedN, results/end_to_end/…/INDEX or results/normalization/…/INDEX), or an unambiguous part of it.
Out: `Materials`. Knows nothing of bundles.
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
from mentionforge.generation.kinds import BY_KIND
from mentionforge.gold import flatten
from mentionforge.kb.sources import Kb
from mentionforge.layout import PREDICTIONS, NormalizationCell, RecognitionCell, Resources, Results
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.loaded import IndexedLinker, indexed_linker
from mentionforge.normalization.settings import Index
from mentionforge.provenance import digest, sha256_paths
from mentionforge.recognition.kinds import Recognizer
from mentionforge.recognition.kinds.dictionary import DictionaryRecognizer
from mentionforge.recognition.sentences import spans_by_document
from mentionforge.specs import read_spec, specs_below

RECOGNITION_LEVELS = tuple(level.name for level in fields(RecognitionCell))
CARD_METRICS = tuple(score.name for score in measures.SCORES if score.on_card)
"""Metrics on the card of a bundle."""
LINKING_LEVELS = tuple(level.name for level in fields(NormalizationCell))


@dataclass(frozen=True)
class AnnotatorCell:
    """The cells that an annotator is made of: a recognition cell and a linking cell, as levels of their paths."""

    results: Path
    recognition: tuple[str, ...]
    linking: tuple[str, ...]


def find(path: Path, recognizer: str | None = None, linker: str | None = None, kb: str | None = None, resources: Path | None = None) -> Materials:
    """Load the materials of a cell.

    Args:
        path: Results folder, or a cell in it.
        recognizer: Recognition cell or a part of its path; required unless `path` names one or there is only one.
        linker: LINKER/INDEX, or a normalization cell; required likewise.
        kb: Knowledge base; none: that of the corpus.
        resources: Folder of fetched weights; none: `resources` beside the results folder or in the working directory.

    Raises:
        UserError: No cell or several cells match, or a file is missing; the message says how to make it.
    """
    return load(cell_of(path, recognizer, linker), kb, resources)


def cell_of(path: Path, recognizer: str | None = None, linker: str | None = None) -> AnnotatorCell:
    """The cell with this name; see `find`."""
    results, levels = _split(path)
    recognition: tuple[str, ...] = ()
    linking: tuple[str, ...] = ()
    if levels[:1] == ("recognition",):
        recognition = tuple(level for level in levels[1:] if level != "model")
    elif levels[:1] == ("end_to_end",):
        recognition, linking = levels[1:7], (*levels[1:4], *levels[7:9])
    elif levels[:1] == ("normalization",):
        linking = levels[1:]
    if recognizer or len(recognition) < len(RECOGNITION_LEVELS):
        recognition = _unique_cell(results, "recognition", recognizer or "/".join(recognition), len(RECOGNITION_LEVELS), "--recognizer")
    if linker and len(linker.strip("/").split("/")) == 2:
        linking = (*recognition[:3], *linker.strip("/").split("/"))
    elif linker or len(linking) < len(LINKING_LEVELS):
        linking = _unique_cell(results, "normalization", linker or "/".join(linking), len(LINKING_LEVELS), "--linker")
    return AnnotatorCell(results, recognition, linking)


def _split(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The results folder above a path, and the levels of the path below it."""
    for folder in (path, *path.parents):
        if Path(Results(str(folder)).specs()).is_dir():
            return folder, path.relative_to(folder).parts
    raise UserError("no results folder", str(path), "neither it nor a folder above it holds specs/", "give --from results, or a cell of it")


def _unique_cell(results: Path, stage: str, name: str, depth: int, option: str) -> tuple[str, ...]:
    """The only cell of a stage whose levels contain the levels of `name`, consecutively."""
    base = Path(Results(str(results)).cells(stage))
    pattern = "/".join(["*"] * depth)
    cells = [p.relative_to(base).parts for p in sorted(base.glob(pattern)) if (p / PREDICTIONS).is_file()]
    levels = Path(name).parts
    if stage in levels:
        levels = levels[levels.index(stage) + 1 :]
    levels = tuple(level for level in levels if level != "model")
    matches = [cell for cell in cells if any(cell[i : i + len(levels)] == levels for i in range(depth - len(levels) + 1))]
    matches = [cell for cell in matches if cell[4] != EXTERNAL] or matches  # level 4: schedule or index; external systems cannot annotate
    if len(matches) == 1:
        return matches[0]
    suggestions = [*matches, *([] if matches else cells)][:6]
    listed = ", ".join("/".join(cell) for cell in suggestions) or f"{stage} has none; run the workflow"
    raise UserError(f"{'several cells' if matches else 'no such cell'}", f"{option} {name}".strip(), f"in {base}", f"give one of: {listed}")


def _of_cell(results: Path, task: str, levels: Sequence[str], file: str) -> Path:
    """A file of a cell."""
    return Path(Results(str(results)).cells(task), *levels, file)


def load(cell: AnnotatorCell, kb: str | None = None, resources: Path | None = None) -> Materials:
    """Load the materials of a cell; see `find`."""
    results, corpus, recognizer = cell.results, cell.recognition[0], cell.recognition[3]
    paths = Results(str(results))
    linked_corpus, linked_generator, linked_strategy, linker, index = cell.linking
    corpus_settings: Corpus = read_spec(paths.spec("corpora", linked_corpus), Corpus)
    kb = kb or corpus_settings.kb
    kb_settings = read_spec(_existing(paths.spec("kbs", kb)), Kb)
    linking_files = _LinkingFiles(results, resources or _resources(results), linked_corpus, linked_generator, linked_strategy, kb)
    settings = read_spec(_existing(paths.spec("linkers", linker)), Linker)
    recognizer_settings = read_spec(_existing(paths.spec("recognizers", recognizer)), Recognizer)
    for kind, name, entry in (("recognizer", recognizer, recognizer_settings), ("linker", linker, settings)):
        if entry.imported:
            refuse_new_text(kind, name)
    index_settings: Index = read_spec(_existing(paths.spec("indexes", index)), Index)
    if not (settings.searches or settings.joins_rankings):
        raise UserError("unfit linker", f"--linker {linker}", "a reranking linker is not read here", f"give its first stage, {settings.input_linkers()[0]}")
    hybrid = settings if settings.joins_rankings else None
    linkers = [linking_files.indexed_linker(name, index_settings) for name in (settings.input_linkers() or (linker,))]
    weights: Sequence[float] = [1 / len(linkers)] * len(linkers)
    if hybrid and hybrid.fusion == "score":
        weights = tables.provenance(_existing(_of_cell(results, "normalization", cell.linking, PREDICTIONS)))["weights"]
    folder = _of_cell(results, "recognition", cell.recognition, "model")
    dictionary = None
    licensed = [of_kb] if (of_kb := kb_settings.licence(kb)) else []
    if not recognizer_settings.trains:
        recognizer_corpus: Corpus = read_spec(paths.spec("corpora", corpus), Corpus)
        dictionary = _dictionary(paths, recognizer_settings, corpus, recognizer_corpus)
        licensed += [f"corpus {corpus}"] if recognizer_corpus.licensed and "train" in recognizer_settings.sources else []
    elif not (folder / "recognizer.json").is_file():
        raise UserError("missing recognizer", str(folder), "it holds no recognizer.json", "run the recognition cell, or name another one")
    texts = any(searched.linker.reads_text for searched in linkers)
    licensed += [f"corpus {linked_corpus}"] if corpus_settings.licensed and texts and "train" in index_settings.sources else []
    concepts_file = _existing(paths.kb(kb, "concepts.parquet"))
    concepts, kb_stamp = tables.read(tables.CONCEPTS, concepts_file), tables.provenance(concepts_file)
    scores = {task: _scores(cell, task) for task in ("recognition", "normalization")}
    card = {
        "recognition": dict(zip(RECOGNITION_LEVELS, cell.recognition, strict=True)),
        "linking": dict(zip(LINKING_LEVELS, cell.linking, strict=True)),
        "kb": {
            "name": kb,
            "source": kb_settings.source,
            "concepts": len(concepts),
            "mentionforge": kb_stamp.get("mentionforge"),
            "inputs": kb_stamp.get("inputs"),
        },
        "recognizer": {} if dictionary else {"weights": sha256_paths([folder])},
        "trained_on": {
            name: bool(read_spec(paths.spec("corpora", name), Corpus).licensed)
            for name in sorted({corpus, linked_corpus, *_repeated(paths, cell.recognition), *_repeated(paths, cell.linking)})
        },
        "measured": _card_scores(cell, {task: table for task, (table, _) in scores.items()}),
    }
    return Materials(
        recognizer=None if dictionary else folder,
        dtype=getattr(recognizer_settings, "dtype", "auto"),
        dictionary=dictionary,
        linkers=linkers,
        hybrid=hybrid,
        weights=list(weights),
        concepts=concepts,
        nil_threshold=_threshold(cell, scores["normalization"][1]),
        spell_out=corpus_settings.abbreviations != "none",
        card=card,
        licensed=sorted(set(licensed)),
        xrefs=Path(paths.kb(kb, "xrefs.parquet")),
        contents=digest(json.dumps([[sha256_paths([path]) for path in [*linking_files.read, concepts_file]], dictionary, weights])),
    )


def _repeated(paths: Results, levels: Sequence[str]) -> set[str]:
    """The corpus whose sentences are the notes of a cell's generator, if they are a corpus'."""
    spec = Path(paths.spec("generators", f"{levels[1]}/prompts"))
    if levels[2] == NONE or not spec.is_file():
        return set()
    settings = json.loads(spec.read_text(encoding="utf-8"))["settings"]
    return {settings["corpus"]} if BY_KIND[settings["kind"]].repeats_corpus else set()


@dataclass(frozen=True)
class _LinkingFiles:
    """Finds the files of a linking cell."""

    results: Path
    resources: Path
    corpus: str
    generator: str
    strategy: str
    kb: str
    read: list[Path] = field(default_factory=list)
    """Files that its linkers are read from; filled by `part`."""

    @property
    def paths(self) -> Results:
        """Paths of the results folder."""
        return Results(str(self.results))

    def indexed_linker(self, linker: str, index: Index) -> IndexedLinker:
        """Load a linker that searches an index, with its entries."""
        spec = _existing(self.paths.spec("linkers", linker))
        settings = read_spec(spec, Linker)
        encoder = f"{linker}@{self.corpus}" if settings.trains else linker
        encoders = [encoder] if settings.trains else self._interchangeable(linker, settings)
        model = None
        if settings.trains:
            model = _existing(self.paths.encoder(linker, self.corpus))
        elif settings.weights:
            model = _existing(Resources(str(self.resources)).model(settings.weights), "give --resources, the folder of fetched weights")
        uses_kb = "kb" in index.sources
        augmented = self.generator != NONE
        files = {
            "corpus": self._embedded([encoder], "corpus", self.corpus) if "train" in index.sources else None,
            "kb": self._embedded(encoders, "kb", self.kb) if uses_kb or settings.weighs_names else None,
            "names": _existing(self.paths.kb(self.kb, "names.parquet")) if uses_kb else None,
            "xrefs": _existing(self.paths.kb(self.kb, "xrefs.parquet")) if uses_kb or index.prefer_xrefs else None,
            "synthetic": self._embedded(encoders, "generator", self.generator) if augmented else None,
            "chosen": _existing(self.paths.chosen(self.corpus, self.generator, self.strategy)) if augmented else None,
        }
        self.read.extend(path for path in (spec, model, *files.values()) if path)
        return indexed_linker(settings, index, model, **files)

    def _interchangeable(self, linker: str, settings: Any) -> list[str]:
        """Linkers that differ only in `expand_abbreviations`: they share the embeddings of names and notes, where abbreviations are never expanded."""
        linkers = [name for name, _ in specs_below(self.paths.specs("linkers"))]
        equal = [o for o in linkers if read_spec(self.paths.spec("linkers", o), Linker).settings_of_names() == settings.settings_of_names()]
        return [linker, *(o for o in equal if o != linker)]

    def _embedded(self, encoders: Sequence[str], kind: str, name: str) -> Path:
        paths = [Path(self.paths.embedded(encoder, kind, name)) for encoder in encoders]
        return next((path for path in paths if path.is_file()), None) or _existing(paths[0])


def _existing(file: str | Path, fix: str = "") -> Path:
    path = Path(file)
    if not path.is_file():
        raise UserError(
            "missing file", str(path), "the cell needs it", fix or "make it: snakemake PATH --configfile …, with the configuration of these results"
        )
    return path


def _resources(results: Path) -> Path:
    candidates = [folder / "resources" for folder in (results.absolute().parent, results.absolute().parent.parent, Path.cwd())]
    return next((folder for folder in candidates if (folder / "models").is_dir()), candidates[0])


def _dictionary(paths: Results, settings: DictionaryRecognizer, corpus: str, corpus_settings: Corpus) -> dict[str, Any]:
    """Names and settings of a dictionary recognizer, as `recognition match` uses them."""
    names: list[str] = []
    if "kb" in settings.sources:
        names += tables.read(tables.NAMES, _existing(paths.kb(corpus_settings.kb, "names.parquet")))["name"].unique().to_pylist()
    if "train" in settings.sources:
        mentions, documents = _existing(paths.corpus(corpus, "mentions.parquet")), _existing(paths.corpus(corpus, "documents.parquet"))
        gold = spans_by_document(row for row in tables.read(tables.MENTIONS, mentions).to_pylist() if row["split"] == "train")
        for row in tables.read(tables.DOCUMENTS, documents).to_pylist():
            words = units.words(row["text"]) if row["doc_id"] in gold else []
            flat = flatten(words, gold.get(row["doc_id"], []), corpus_settings.discontinuous)
            names += [row["text"][words[a][0] : words[b - 1][1]] for a, b in flat.spans]
    return {"names": names, "min_length": settings.min_length, "stop": list(settings.stop)}


def _scores(cell: AnnotatorCell, task: str) -> tuple[pa.Table | None, pa.Table | None]:
    """Metrics of a task, and for linking the threshold curves: those of the experiment, or computed for this cell if it was not scored."""
    levels = cell.recognition if task == "recognition" else cell.linking
    corpus, paths = levels[0], Results(str(cell.results))
    path, nil = Path(paths.scores(task, corpus)), Path(paths.scores("nil", corpus))
    if path.is_file() and (task == "recognition" or nil.is_file()):
        return tables.read(tables.METRICS, path), tables.read(tables.NIL, nil) if task != "recognition" else None
    base = cell.results / task
    predictions = _of_cell(cell.results, task, levels, PREDICTIONS)
    required = [predictions, Path(paths.corpus(corpus, "mentions.parquet")), Path(paths.corpus(corpus, "documents.parquet"))]
    if task != "recognition":
        required.append(predictions.with_name("calibration.parquet"))
    if not all(p.is_file() for p in required):
        return None, None
    from mentionforge.evaluation import normalization, recognition

    spec = Path(paths.spec("corpora", corpus))
    with tempfile.TemporaryDirectory() as scratch:
        out, curves = Path(scratch) / "metrics.parquet", Path(scratch) / "nil.parquet"
        if task == "recognition":
            recognition.evaluate(required[1].parent, spec, base, [predictions], out)
            return tables.read(tables.METRICS, out), None
        normalization.evaluate(required[1].parent, spec, base, [predictions], out, curves)
        return tables.read(tables.METRICS, out), tables.read(tables.NIL, curves)


def _threshold(cell: AnnotatorCell, curves: pa.Table | None) -> float | None:
    """The best NIL threshold on dev; None without dev mentions."""
    if curves is None:
        return None
    for column, value in zip(("generator", "strategy", "linker", "index"), cell.linking[1:], strict=True):
        curves = curves.filter(pc.equal(curves[column], value))
    chosen = curves.filter(pc.and_(curves["chosen"], pc.and_(pc.equal(curves["split"], "dev"), pc.greater(curves["n"], 0))))
    return float(chosen["threshold"][0].as_py()) if len(chosen) else None


def _card_scores(cell: AnnotatorCell, scores: Mapping[str, pa.Table | None]) -> list[dict[str, Any]]:
    """Scores of the two cells on the test split of their corpora, for the card."""
    rows: list[dict[str, Any]] = []
    for task, levels, variant in (("recognition", cell.recognition, cell.recognition[4]), ("normalization", cell.linking, cell.linking[4])):
        key: dict[str, Any] = {"generator": levels[1], "strategy": levels[2], "system": levels[3], "variant": variant, "split": "test"}
        key |= {"seed": int(cell.recognition[5].removeprefix("seed"))} if task == "recognition" else {}
        table = scores[task]
        for row in table.to_pylist() if table is not None else ():
            if all(row[k] == v for k, v in key.items()) and row["metric"] in CARD_METRICS:
                rows.append({k: row[k] for k in ("task", "corpus", "bucket", "metric", "value", "n")})
    return rows
