"""A results folder as the workflow leaves it, small enough to make in a second: a dictionary as recognizer, linkers with and without encoder."""

import json
from pathlib import Path

from mentionforge import tables, text
from mentionforge.normalization.embed import embed_corpus, embed_kb
from mentionforge.normalization.linking import IndexFiles, link, search_kb
from mentionforge.normalization.predicted import link_predicted
from mentionforge.recognition.kinds.dictionary import match
from mentionforge.recognition.mentions import as_mentions

NAMES = [
    ("C0020179", "Huntington disease", True), ("C0020179", "Huntington's chorea", False), ("C0018099", "Gout", True), ("C0018099", "Gouty arthritis", False),
    ("C0002395", "Alzheimer disease", True), ("C0011849", "Diabetes mellitus", True), ("C0011860", "Type 2 diabetes mellitus", True),
    ("C0006142", "Breast cancer", True), ("C0006826", "Cancer", True), ("C0030567", "Parkinson disease", True), ("C9999999", "Gout", True),
]  # fmt: skip
TRAIN = "Huntington disease (HD) is rare. Gout is not. Breast cancer and diabetes mellitus are common."
TESTS = [
    "HD is Huntington's chorea. Huntington disease (HD) again, and gout.\n\nNo diabetes mellitus. Breast cancer, Alzheimer disease (AD); AD was ruled out.",
    "Type 2 diabetes mellitus.\r\nParkinson disease?\r\n\r\nGouty arthritis, cancer; caf\u00e9 \U0001f600 gout.",
    "Nothing of the kind here.",
]
LINKERS = {
    "exact": {"kind": "exact", "expand_abbreviations": True},
    "tfidf": {"kind": "tfidf", "expand_abbreviations": True},
    "plain": {"kind": "tfidf"},
    "both": {"kind": "hybrid", "linkers": ["tfidf", "exact"], "fusion": "rank"},
}
ENCODERS = {
    "mention": {"kind": "mention", "model": "minilm", "pooling": "mean", "expand_abbreviations": True},
    "context": {"kind": "context", "model": "minilm", "pooling": "mean", "max_tokens": 32},
}
INDEXES = {"train+kb": {"sources": ["train", "kb"]}, "coded": {"sources": ["kb"], "prefer_xrefs": ["OMIM"], "require_xrefs": ["MSH", "OMIM"]}}
CELL = "recognition/c/none/none/dictionary/untrained/seed0"
KB = {"source": "ontologies", "mondo": "x"}
CORPUS = {"reader": "pubtator", "kb": "k", "splits": {"train": ["a"], "test": ["b"]}}


def spec(folder: Path, kind: str, name: str, settings: dict) -> Path:
    path = folder / "specs" / kind / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"kind": kind, "settings": settings}))
    return path


def make(folder: Path, minilm: Path | None = None, kb: dict = KB, corpus: dict = CORPUS, gold: bool = False) -> Path:
    """The results folder FOLDER/results, with cells c/none/none; returns it."""
    results = folder / "results"
    kb_folder, corpus_folder = results / "kb/k", results / "corpora/c"
    corpus_spec = spec(results, "corpora", "c", corpus)
    spec(results, "kbs", "k", kb)
    recognizer = spec(results, "recognizers", "dictionary", {"kind": "dictionary", "sources": ["kb", "train"], "min_length": 2})
    rows = [{"cui": c, "name": n, "source": "s", "term_type": "PT", "preferred": p} for c, n, p in NAMES]
    tables.write(tables.NAMES, kb_folder / "names.parquet", rows)
    codes = [("MSH", c) for c, _, _ in NAMES if c != "C0006826"] + [("OMIM", "C9999999"), ("OMIM", "C0020179")]
    tables.write(tables.XREFS, kb_folder / "xrefs.parquet", [{"source": s, "code": c, "cui": c, "via": "x"} for s, c in sorted(set(codes))])
    first = {c: n for c, n, p in reversed(NAMES) if p}
    tables.write(
        tables.CONCEPTS,
        kb_folder / "concepts.parquet",
        [{"cui": c, "preferred_name": n, "definition": "licensed words", "semantic_types": ["T047"]} for c, n in sorted(first.items())],
    )
    texts = [("train", "t", TRAIN), *([("dev", "v", TESTS[0])] if gold else []), *(("test", f"d{i}", t) for i, t in enumerate(TESTS))]
    documents = [{"doc_id": d, "split": s, "text": t, "sentences": [{"start": a, "end": b} for a, b in next(text.sentences([t]))]} for s, d, t in texts]
    tables.write(tables.DOCUMENTS, corpus_folder / "documents.parquet", documents)
    annotated = []
    for surface, cui in (("Huntington disease", "C0020179"), ("HD", "C0020179"), ("Gout", "C0018099"), ("diabetes mellitus", "C0011849")):
        at = TRAIN.index(surface)
        row = {"doc_id": "t", "mention_id": f"t-{at}", "split": "train", "spans": [{"start": at, "end": at + len(surface)}], "surface": surface}
        row |= {"expanded": "Huntington disease" if surface == "HD" else None, "entity_type": "Disease", "concept_ids": [f"CUI:{cui}"], "cuis": [cui]}
        annotated.append(row | {"concept_cuis": [[cui]], "composite": False, "ood_bucket": "seen_mention"})
    if gold:  # in dev and test, a mention with a concept that is found, and one without a concept
        for doc, split in (("d0", "test"), ("v", "dev")):
            for surface, cuis in (("Huntington's chorea", ["C0020179"]), ("again", [])):
                at = TESTS[0].index(surface)
                row = {"doc_id": doc, "mention_id": f"{doc}-{at}", "split": split, "spans": [{"start": at, "end": at + len(surface)}], "surface": surface}
                row |= {"expanded": None, "entity_type": "Disease", "concept_ids": [f"CUI:{c}" for c in cuis], "cuis": cuis, "concept_cuis": [cuis] * len(cuis)}
                annotated.append(row | {"composite": False, "ood_bucket": "seen_concept" if cuis else "unmapped"})
    tables.write(tables.MENTIONS, corpus_folder / "mentions.parquet", annotated)
    cell = results / "recognition/c/none/none/dictionary/untrained/seed0"
    match(recognizer, corpus_folder, corpus_spec, cell / "predictions.parquet", kb_folder / "names.parquet")
    end = results / "end_to_end/c/none/none/dictionary/untrained/seed0"
    as_mentions(cell / "predictions.parquet", corpus_folder, corpus_spec, end)
    linkers = LINKERS | (ENCODERS if minilm else {})
    for name, settings in linkers.items():
        spec(results, "linkers", name, settings)
    for name, settings in INDEXES.items():
        spec(results, "indexes", name, settings)
    if minilm:
        (folder / "resources/models").mkdir(parents=True)
        (folder / "resources/models/minilm").symlink_to(minilm.parent)
    for name, settings in linkers.items():
        if settings["kind"] == "hybrid":
            continue
        linker, model = results / f"specs/linkers/{name}.json", minilm if "model" in settings else None
        embedded = results / "embeddings" / name
        embed_kb(linker, model, kb_folder / "names.parquet", embedded / "kb.k")
        embed_corpus(linker, model, corpus_folder, embedded / "corpus.c")
        more = {"kb": embedded / "kb.k/entries.parquet", "names": kb_folder / "names.parquet", "xrefs": kb_folder / "xrefs.parquet"}
        for index in INDEXES:
            index_spec = results / f"specs/indexes/{index}.json"
            link_predicted(linker, [index_spec], end, [end / name / index / "linked.parquet"], model, **more)
            # The gold cell: nothing is linked in it, but it names linker and index.
            found = folder / "found.parquet"
            search_kb(linker, index_spec, embedded / "corpus.c/entries.parquet", *more.values(), found)
            out = results / "normalization/c/none/none" / name / index
            codes = more["xrefs"] if "prefer_xrefs" in INDEXES[index] else None
            cell = IndexFiles(index_spec, out / "predictions.parquet", out / "calibration.parquet", found)
            link(linker, embedded / "corpus.c/entries.parquet", [cell], more["kb"], codes)
    return results


def untrained(folder: Path) -> Path:
    """A recognizer with random weights, small and in no need of a download; returns its folder."""
    from string import ascii_lowercase

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    from mentionforge.recognition.tagger import Tagger

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = [*special.values(), *ascii_lowercase, *("##" + c for c in ascii_lowercase)]
    words = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=514,
        num_labels=3,
    )
    tagger = Tagger(BertForTokenClassification(config), PreTrainedTokenizerFast(tokenizer_object=words, **special), 510, 64)
    tagger.save(folder / "recognizer", {})
    return folder / "recognizer"


def linked(results: Path, linker: str, index: str) -> dict[str, list[tuple[str, float]]]:
    """The experiment's own rankings, by mention id."""
    path = results / "end_to_end/c/none/none/dictionary/untrained/seed0" / linker / index / "linked.parquet"
    found: dict[str, list[tuple[str, float]]] = {}
    for row in tables.read(tables.LINKED, path).to_pylist():
        found.setdefault(row["mention_id"], []).append((row["cui"], row["score"]))
    return found
