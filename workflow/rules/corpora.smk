"""Corpora: annotated text becomes documents and mentions with exact offsets, CUI sets and OOD buckets.

REQUIRED INPUTS
    the files or folders of corpora.{corpus}.source and .splits
    {results}/kb/{kb}/{names,xrefs,retired}.parquet, to map ids to CUIs
OUTPUTS
    {results}/corpora/{corpus}/{documents,mentions}.parquet, split.csv, unmapped.csv, duplicates.csv, skipped.csv,
    stats.json
    {results}/corpora/{corpus}/card.md of all corpora, {results}/corpora/overlap.csv
    {results}/leakage/{corpus}/{generator}.csv, which every strategy needs
"""

from mentionforge.dag.corpora import CorpusInputs

CORPUS = CorpusInputs(CONFIG)


rule corpus_read:
    """Read a corpus, check every offset, map ids to CUI sets, assign OOD buckets against the training split."""
    input:
        spec=spec_of("corpora", "{corpus}"),
        files=CORPUS.files,
        kb=kb_tables("corpora", "names", "xrefs", "retired"),
    output:
        documents=RESULTS.corpus("{corpus}", "documents.parquet"),
        mentions=RESULTS.corpus("{corpus}", "mentions.parquet"),
        split=RESULTS.corpus("{corpus}", "split.csv"),
        unmapped=RESULTS.corpus("{corpus}", "unmapped.csv"),
        duplicates=RESULTS.corpus("{corpus}", "duplicates.csv"),
        skipped=RESULTS.corpus("{corpus}", "skipped.csv"),
        stats=RESULTS.corpus("{corpus}", "stats.json"),
    log:
        RESULTS.log("corpora/{corpus}"),
    benchmark:
        RESULTS.benchmark("corpora/{corpus}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        out=subpath(output.documents, parent=True),
    message:
        "read corpus {wildcards.corpus}"
    shell:
        "mentionforge corpora read --spec {input.spec:q} --kb {params.kb:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule leakage:
    """Compare a generator's notes, and what it was fine-tuned on, with the test documents of a corpus; a leak stops the workflow."""
    input:
        corpus=RESULTS.corpus("{corpus}", "documents.parquet"),
        notes=RESULTS.generation("{generator}", "located.parquet"),
        pairs=CORPUS.finetune_pairs,
        finetuned_on=CORPUS.finetune_documents,
        versions=raised("corpora.leakage"),
    output:
        RESULTS.leakage("{corpus}", "{generator}"),
    log:
        RESULTS.log("leakage/{corpus}/{generator}"),
    benchmark:
        RESULTS.benchmark("leakage/{corpus}/{generator}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        settings=CORPUS.leakage_settings,
        more=flags(notes="--notes", pairs="--pairs"),
        finetuned_on=each_folder("finetuned_on", "--finetuned-on"),
    message:
        "compare the texts of {wildcards.generator} with the test documents of {wildcards.corpus}"
    shell:
        "mentionforge corpora leakage --corpus {params.corpus:q} --settings {params.settings:q} {params.more} {params.finetuned_on} --out {output:q}"
        " 2>&1 | tee {log:q}"


rule corpus_cards:
    """Write a card of every corpus: counts per split, overlap with other corpora and with the knowledge base; no text."""
    input:
        corpora=[RESULTS.corpus(corpus, file) for corpus in EXPERIMENT.corpora for file in ("documents.parquet", "mentions.parquet", "stats.json")],
        names=[RESULTS.kb(kb, "names.parquet") for kb in EXPERIMENT.kbs],
        versions=raised("corpora.cards"),
    output:
        overlap=RESULTS.overlap,
        cards=EXPERIMENT.cards,
    log:
        RESULTS.log("corpora/cards"),
    benchmark:
        RESULTS.benchmark("corpora/cards")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpora=[str(Path(RESULTS.corpus(corpus, "stats.json")).parent) for corpus in EXPERIMENT.corpora],
        kbs=CORPUS.kb_flags(EXPERIMENT.corpora),
    message:
        "cards of the corpora"
    shell:
        "mentionforge corpora cards {params.corpora:q} {params.kbs} --overlap {output.overlap:q} 2>&1 | tee {log:q}"
