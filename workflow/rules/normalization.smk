"""Normalization: names are searched once per corpus, then concepts are ranked for every mention.

REQUIRED INPUTS
    {results}/embeddings/{encoder}/{kb,corpus,generator}.{name}/entries.parquet
    {results}/kb/{kb}/{concepts,names,xrefs}.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet, {results}/reranking/{linker}/{corpus}/fetched.json
OUTPUTS
    {results}/retrieval/{corpus}/{linker}/{index}/found.parquet
    {results}/normalization/{corpus}/{generator}/{strategy}/{linker}/{index}/{predictions,calibration}.parquet
"""

from mentionforge.layout import NormalizationCell

BASELINE_CELL = NormalizationCell("{corpus}", NONE, NONE, "{linker}", "{index}")
CELL = NormalizationCell("{corpus}", "{generator}", "{strategy}", "{linker}", "{index}")


rule search_names:
    """Search the names of a knowledge base for every mention of a corpus."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=LINKING.embedded_corpus,
        kb=LINKING.embedded_kb,
        tables=kb_tables("corpora", "names", "xrefs"),
        versions=raised("normalization.link"),
    output:
        RESULTS.retrieval("{corpus}", "{linker}", "{index}"),
    log:
        f"{R}/logs/retrieval/{{corpus}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/retrieval/{{corpus}}/{{linker}}/{{index}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    message:
        "search the names of {wildcards.index} for the mentions of {wildcards.corpus} with {wildcards.linker}"
    shell:
        "mentionforge normalization search-kb --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} --kb {input.kb:q}"
        " --names {input.tables[0]:q} --xrefs {input.tables[1]:q} --out {output:q} 2>&1 | tee {log:q}"


rule link_baseline:
    """Rank concepts for every mention of dev and test, without synthetic mentions."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=LINKING.embedded_corpus,
        kb=LINKING.ngram_weights,
        found=LINKING.candidate_names,
        xrefs=LINKING.preferred_codes,
        versions=raised("normalization.link"),
    output:
        predictions=RESULTS.normalization(BASELINE_CELL),
        calibration=RESULTS.normalization(BASELINE_CELL, "calibration.parquet"),
    log:
        f"{R}/logs/normalization/{BASELINE_CELL.path}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{BASELINE_CELL.path}.tsv"
    wildcard_constraints:
        linker=one_of(LINKING.searching),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(kb="--kb", found="--found", xrefs="--xrefs"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.more}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule link_augmented:
    """Rank concepts for every mention of dev and test, with the strategy's synthetic mentions in the index."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=LINKING.embedded_corpus,
        kb=LINKING.ngram_weights,
        found=LINKING.candidate_names,
        xrefs=LINKING.preferred_codes,
        synthetic=LINKING.embedded_generator,
        chosen=RESULTS.chosen("{corpus}", "{generator}", "{strategy}"),
        versions=raised("normalization.link"),
    output:
        predictions=RESULTS.normalization(CELL),
        calibration=RESULTS.normalization(CELL, "calibration.parquet"),
    log:
        f"{R}/logs/normalization/{CELL.path}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{CELL.path}.tsv"
    wildcard_constraints:
        linker=one_of(LINKING.searching),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(kb="--kb", found="--found", xrefs="--xrefs"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.more}"
        " --synthetic {input.synthetic:q} --chosen {input.chosen:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule fuse:
    """Fuse the rankings of several linkers on the same cell."""
    input:
        spec=spec_of("linkers", "{linker}"),
        predictions=LINKING.of_read_linkers("predictions"),
        calibrations=LINKING.of_read_linkers("calibration"),
        mentions=RESULTS.corpus("{corpus}", "mentions.parquet"),
    output:
        predictions=RESULTS.normalization(CELL),
        calibration=RESULTS.normalization(CELL, "calibration.parquet"),
    log:
        f"{R}/logs/normalization/{CELL.path}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{CELL.path}.tsv"
    wildcard_constraints:
        linker=one_of(LINKING.hybrids),
        generator=one_of([NONE, *CONFIG.generators]),
        strategy=one_of(CONFIG.strategies),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(predictions="--predictions", calibrations="--calibrations"),
    message:
        "fuse the linkers of {wildcards.linker} for {wildcards.corpus} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization fuse --spec {input.spec:q} {params.more} --mentions {input.mentions:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule rerank:
    """Rerank the first concepts of another linker's rankings on the same cell."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=f"{R}/reranking/{{linker}}/{{corpus}}/fetched.json",
        kb=kb_tables("corpora", "concepts"),
        corpus=CORPUS_TABLES,
        predictions=LINKING.of_read_linkers("predictions"),
        calibrations=LINKING.of_read_linkers("calibration"),
    output:
        predictions=RESULTS.normalization(CELL),
        calibration=RESULTS.normalization(CELL, "calibration.parquet"),
    log:
        f"{R}/logs/normalization/{CELL.path}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{CELL.path}.tsv"
    wildcard_constraints:
        linker=one_of(LINKING.rerankers),
        generator=one_of([NONE, *CONFIG.generators]),
        strategy=one_of(CONFIG.strategies),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        corpus=parent_of("corpus"),
    message:
        "rerank {wildcards.corpus} with {wildcards.linker} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization rerank --spec {input.spec:q} --model {input.model:q} --kb {params.kb:q} --corpus {params.corpus:q}"
        " --predictions {input.predictions:q} --calibrations {input.calibrations:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"
