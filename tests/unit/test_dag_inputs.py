"""What rules ask: input files and flags by the configuration, with paths written out by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from checkout import ROOT
from mentionforge.config import load_config
from mentionforge.config_files import merge
from mentionforge.dag.corpora import CorpusInputs
from mentionforge.dag.end_to_end import EndToEndInputs
from mentionforge.dag.evaluation import EvaluationInputs
from mentionforge.dag.generation import GenerationInputs, from_checkout
from mentionforge.dag.kb import KbInputs
from mentionforge.dag.normalization import NormalizationInputs
from mentionforge.dag.recognition import RecognitionInputs
from mentionforge.dag.report import ReportInputs
from mentionforge.dag.resources import ResourceInputs
from mentionforge.dag.shared import each_folder, flags, folder_flags, joined, one_of, parent_of

ENTRIES: dict[str, Any] = {
    "generators": {"lost": {"kind": "replay", "kb": "demo", "path": "lost.csv", "licensed": "ask them"}},
    "linkers": {
        "abbr": {"kind": "tfidf", "expand_abbreviations": True},
        "fused": {"kind": "hybrid", "linkers": ["mention", "tfidf"]},
        "trained": {"kind": "self_aligned", "model": "minilm", "train": {"synthetic": "template"}},
        "ranked": {"kind": "rerank", "linker": "fused", "index": "kb", "model": "minilm"},
    },
    "indexes": {"again": {"sources": ["kb"]}, "coded": {"sources": ["train"], "prefer_xrefs": ["MSH"]}},
}


@pytest.fixture(scope="module")
def config() -> Any:
    """The default configuration, and an entry of every kind that the rules tell apart."""
    raw: dict[str, Any] = {}
    merge(raw, yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    merge(raw, ENTRIES)
    return load_config(raw, root=ROOT)


def w(**wildcards: str) -> Any:
    """Wildcards of a job."""
    return SimpleNamespace(**wildcards, items=lambda: wildcards.items())


def test_flags() -> None:
    """A flag for each path, quoted; absent inputs have none."""
    given = {"model": "a b/fetched.json", "many": ["x/1.parquet", "y/2.parquet"], "none": []}
    assert flags(model="--model", many="--m", none="--n", other="--o")(w(), given) == "--model 'a b/fetched.json' --m x/1.parquet --m y/2.parquet"
    assert folder_flags(many="--m", none="--n")(w(), given) == "--m x"
    assert joined(flags(none="--n"), folder_flags(many="--m"), flags(model="-m"))(w(), given) == "--m x -m 'a b/fetched.json'"
    assert each_folder("many", "--corpus")(w(), given) == "--corpus x --corpus y"
    assert each_folder("none", "--corpus")(w(), given) == ""
    assert parent_of("many")(w(), given) == "x"
    assert parent_of("model")(w(), given) == "a b"


def test_one_of() -> None:
    """Names as they are, and nothing where there are none."""
    assert one_of({"train+kb", "a"}) == r"a|train\+kb"
    assert one_of([]) == "(?!)"


def test_input_files(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a folder one by one; for a licensed file that is missing, the job that says how to get it."""
    monkeypatch.chdir(ROOT)
    files = KbInputs(config).files(w(kb="demo"))
    assert "resources/demo/umls/META/MRCONSO.RRF" in files
    assert files == sorted(files)
    generation = GenerationInputs(config)
    assert generation.replayed(w(generator="lost")) == "results/missing/generators/lost"
    assert generation.replayed(w(generator="template")) == []
    assert ResourceInputs(config).licensed_hint(w(kind="generators", name="lost")) == "ask them"
    assert not CorpusInputs(config).is_licensed("corpora", "demo_ncbi")
    assert (CorpusInputs(config).licensed_text("lost"), CorpusInputs(config).licensed_text("smollm2")) == (True, False)


def test_files_of_a_snapshot_lie_deeper_and_are_licensed_wherever_they_are(tmp_path: Path) -> None:
    snapshot = tmp_path / "resources/downloads/release/Snapshot"
    (snapshot / "Terminology").mkdir(parents=True)
    read = snapshot / "Terminology/sct2_Concept_Snapshot_INT_20240101.txt"
    for path in (read, snapshot / "Terminology/sct2_StatedRelationship_Snapshot_INT_20240101.txt", snapshot / "Readme.txt"):
        path.write_text("")
    raw: dict[str, Any] = {}
    merge(raw, yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    settings = {"source": "rf2", "path": str(snapshot.parent)}
    merge(raw, {"resources": str(tmp_path / "resources"), "kbs": {"snomed": settings, "table": {"source": "table", "path": "resources/demo/x.csv"}}})
    inputs = KbInputs(load_config(raw))
    assert inputs.files(w(kb="snomed")) == [str(read)]
    assert inputs.is_licensed("kbs", "snomed") and not inputs.is_licensed("kbs", "table") and not inputs.is_licensed("kbs", "demo")


def test_generation(config: Any) -> None:
    """A generator reads what its settings ask for."""
    generation, llm = GenerationInputs(config), w(generator="smollm2")
    assert generation.shards(llm) == ["results/generation/smollm2/shards/0-of-2.parquet", "results/generation/smollm2/shards/1-of-2.parquet"]
    assert generation.adapter(llm) == "results/generation/smollm2/adapter"
    assert generation.weights(llm) == "resources/models/smollm2/fetched.json"
    assert generation.pairs(llm) == "results/generation/smollm2/pairs.parquet"
    assert generation.pairs(w(generator="names")) == []
    assert generation.leakage_corpora(llm) == ["results/corpora/demo_semeval/documents.parquet"]
    assert generation.training_corpus(llm) == ["results/corpora/demo_semeval/documents.parquet", "results/corpora/demo_semeval/mentions.parquet"]
    assert generation.concepts_corpus(llm) == generation.encoder_of("filter")(llm) == generation.encoder_of("locate")(llm) == []
    assert generation.licensed_flag(llm) == ""
    assert generation.vllms == []
    assert from_checkout(Path("/a b"))(llm) == "PYTHONPATH='/a b/workflow' python -m mentionforge.cli"
    assert CorpusInputs(config).finetune_pairs(llm) == "results/generation/smollm2/pairs.parquet"
    assert CorpusInputs(config).finetune_documents(w(generator="template")) == []


def test_generators_that_read_a_corpus() -> None:
    """Its tables reach prompts and notes, and its licence counts for them."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw["corpora"]["notes"] = raw["corpora"]["demo_ncbi"] | {"licensed": "sign"}
    raw["generators"] |= {name: {"kind": "replacement", "kb": "demo", "corpus": corpus} for name, corpus in (("swapped", "demo_ncbi"), ("patients", "notes"))}
    raw["experiment"]["normalization"][0]["generators"] = ["swapped", "patients"]
    config: Any = load_config(raw, root=ROOT)
    generation = GenerationInputs(config)
    tables = ["results/corpora/demo_ncbi/documents.parquet", "results/corpora/demo_ncbi/mentions.parquet"]
    assert generation.read_corpus(w(generator="swapped")) == tables
    assert generation.read_corpus(w(generator="smollm2")) == generation.read_corpus(w(generator="template")) == []
    assert [generation.licensed_text(name) for name in ("swapped", "patients", "smollm2")] == [False, True, False]
    assert [generation.licensed_flag(w(generator=name)) for name in ("swapped", "patients")] == ["", "--licensed"]
    assert generation.encoder_of("locate")(w(generator="swapped")) == []
    assert "generators/patients" in ReportInputs(config).licensed_entries(w()) and "swapped" not in ReportInputs(config).licensed_entries(w())


def test_prompts_read_what_their_template_and_kind_ask_for() -> None:
    """Pairs for examples, the hierarchy for parents; and nothing for the default prompt."""
    change = {
        "prompts": {"kin": {"template": "{{ preferred }} {{ parents }}"}},
        "generators": {"smollm2": {"prompt": "kin"}, "shown": {"kind": "few_shot", "kb": "demo", "model": "smollm2", "examples": {"corpus": "demo_ncbi"}}},
    }
    config = load_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), change))
    generation, kin, shown = GenerationInputs(config), w(generator="smollm2"), w(generator="shown")
    assert generation.parents_asked(kin) == "results/kb/demo/parents.parquet"
    assert generation.parents_asked(shown) == generation.parents_asked(w(generator="template")) == []
    assert generation.replayed(shown) == "results/generation/shown/pairs.parquet" and generation.replayed(kin) == []
    assert generation.training_corpus(shown) == ["results/corpora/demo_ncbi/documents.parquet", "results/corpora/demo_ncbi/mentions.parquet"]
    assert generation.adapter(shown) == [] and generation.weights(shown) == "resources/models/smollm2/fetched.json"
    assert CorpusInputs(config).finetune_pairs(shown) == "results/generation/shown/pairs.parquet"
    assert CorpusInputs(config).finetune_documents(shown) == "results/corpora/demo_ncbi/documents.parquet"


def test_recognition(config: Any) -> None:
    """Schedules that relabel or mask ask the real-only model of the same seed; a dictionary reads the names."""
    recognition = RecognitionInputs(config)
    cell = {"corpus": "demo_ncbi", "recognizer": "minilm", "seed": "3"}
    assert recognition.teacher(w(**cell, schedule="masked_then_real")) == "results/recognition/demo_ncbi/none/none/minilm/real_only/seed3/model"
    assert recognition.teacher(w(**cell, schedule="mixed")) == []
    assert recognition.weights_of("recognizers")(w(**cell)) == "resources/models/minilm/fetched.json"
    assert recognition.dictionary_names(w(corpus="demo_ncbi", recognizer="dictionary")) in ([], "results/kb/demo/names.parquet")


def test_encoders(config: Any) -> None:
    """Linkers that differ only in abbreviations share names; one that is trained here has an encoder for each corpus."""
    linking = NormalizationInputs(config)
    assert (linking.aligned, linking.hybrids, linking.rerankers) == (["trained"], ["fused"], ["ranked"])
    assert linking.searching == ["abbr", "context", "exact", "mention", "tfidf", "trained"]
    assert set(linking.encoders) == {"abbr", "context", "exact", "mention", "tfidf", "trained@demo_semeval", "trained@demo_ncbi", "trained@demo_bc5cdr"}
    abbr, trained = w(linker="abbr", corpus="demo_ncbi"), w(linker="trained", corpus="demo_ncbi")
    assert linking.embedded_kb(abbr) == "results/embeddings/tfidf/kb.demo/entries.parquet"
    assert linking.embedded_corpus(abbr) == "results/embeddings/abbr/corpus.demo_ncbi/entries.parquet"
    assert linking.embedded_kb(trained) == "results/embeddings/trained@demo_ncbi/kb.demo/entries.parquet"
    assert linking.encoder_spec(w(encoder="trained@demo_ncbi")) == "results/specs/linkers/trained.json"
    assert linking.encoder_weights(w(encoder="trained@demo_ncbi")) == "results/alignment/trained/demo_ncbi/fetched.json"
    assert linking.encoder_weights(w(encoder="mention")) == "resources/models/minilm/fetched.json"
    assert linking.encoder_weights(w(encoder="tfidf")) == []


def test_linking(config: Any) -> None:
    """Indexes that admit the same names share one search; a hybrid reads its linkers; a reranker trains below its first linker."""
    linking = NormalizationInputs(config)
    cell = {"corpus": "demo_ncbi", "generator": "none", "strategy": "none"}
    first = next(name for name, index in config.indexes.items() if "kb" in index.sources)
    assert linking.candidate_names(w(**cell, linker="tfidf", index="again")) == f"results/retrieval/demo_ncbi/tfidf/{first}/found.parquet"
    assert linking.candidate_names(w(**cell, linker="tfidf", index="coded")) == []
    assert linking.preferred_codes(w(**cell, linker="tfidf", index="coded")) == "results/kb/demo/xrefs.parquet"
    assert linking.ngram_weights(w(**cell, linker="mention", index="kb")) == []
    assert linking.of_read_linkers("calibration")(w(**cell, linker="fused", index="kb")) == [
        "results/normalization/demo_ncbi/none/none/mention/kb/calibration.parquet",
        "results/normalization/demo_ncbi/none/none/tfidf/kb/calibration.parquet",
    ]
    below = linking.first_stage(linking.embedded_corpus)(w(linker="ranked", corpus="demo_ncbi"))
    assert below == "results/embeddings/mention/corpus.demo_ncbi/entries.parquet"
    assert linking.aligned_synthetic(w(linker="trained")) == ["results/generation/template/located.parquet", "results/generation/template/mentions.parquet"]


def test_end_to_end(config: Any) -> None:
    """The job reads names where the index searches them, codes also where it prefers some, and synthetic text where the cell has it."""
    linking = EndToEndInputs(config)
    real = w(corpus="demo_ncbi", generator="none", strategy="none", linker="tfidf", index="coded")
    augmented = w(corpus="demo_ncbi", generator="names", strategy="ideal", linker="trained", index="kb")
    assert linking.names_or_weights(real) == "results/embeddings/tfidf/kb.demo/entries.parquet"
    assert (linking.searched_names("names")(real), linking.searched_names("xrefs")(real)) == ([], "results/kb/demo/xrefs.parquet")
    assert linking.synthetic_of_cell(real) == linking.chosen_of_cell(real) == []
    assert linking.chosen_of_cell(augmented) == "results/augmentation/demo_ncbi/names/ideal/notes.parquet"
    assert linking.synthetic_of_cell(augmented) == "results/embeddings/trained@demo_ncbi/generator.names/entries.parquet"
    assert linking.linker_weights(augmented) == "results/alignment/trained/demo_ncbi/fetched.json"


def test_evaluation_and_report(config: Any) -> None:
    """Cells of one corpus alone; the controls and the index with the knowledge base are what cells are compared with."""
    evaluation, report = EvaluationInputs(config), ReportInputs(config)
    corpus = evaluation.normalization[0].corpus
    predictions = evaluation.normalization_predictions(w(corpus=corpus))
    assert predictions
    assert all(path.startswith(f"results/normalization/{corpus}/") and path.endswith("/predictions.parquet") for path in predictions)
    assert [path.replace("predictions.", "calibration.") for path in predictions] == evaluation.normalization_calibrations(w(corpus=corpus))
    assert evaluation.cross_sources(w(corpus=corpus)) == []
    assert "--control names --control template" in evaluation.reference_flags(w())
    assert "lost" not in evaluation.reference_flags(w())
    assert "--with-kb train=train+kb" in evaluation.reference_flags(w())
    chosen = evaluation.chosen_notes(w(task="normalization", corpus=corpus))
    assert chosen
    assert set(chosen) <= set(evaluation.chosen)
    assert report.licensed_entries(w()) == ""
    assert set(report.compared("comparisons")) < set(report.compared("comparisons", "changes"))
    assert report.models == ["minilm", "smollm2"]


def test_raised(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose version is above its first is an input; its name may hold wildcards."""
    monkeypatch.setattr("mentionforge.versions.raised", lambda name: name == "schedule.mixed")
    specs = RecognitionInputs(config).raised("schedule.{schedule}")
    assert specs(w(schedule="mixed")) == ["results/specs/parts/schedule.mixed.json"]
    assert specs(w(schedule="real_only")) == []
