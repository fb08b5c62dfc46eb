"""Normalization: names are searched once per corpus, then concepts are ranked for every mention.

REQUIRED INPUTS
    {results}/embeddings/{encoder}/{kb,corpus,generator}.{name}/entries.parquet
    {results}/kb/{kb}/{concepts,names,xrefs}.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet, {results}/reranking/{linker}/{corpus}/fetched.json
OUTPUTS
    {results}/retrieval/{corpus}/{linker}/{index}/found.parquet
    {results}/normalization/{corpus}/{generator}/{strategy}/{linker}/{index}/{predictions,calibration}.parquet

Several indexes that the experiment asks for on the same corpus, generator, strategy and linker are one job (mentionforge/dag/together.py).
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
        RESULTS.log("retrieval/{corpus}/{linker}/{index}"),
    benchmark:
        RESULTS.benchmark("retrieval/{corpus}/{linker}/{index}")
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


for batch in LINKING.batches:

    rule:
        name:
            f"link_baseline{batch.suffix}"
        input:
            spec=spec_of("linkers", "{linker}"),
            indexes=[spec_of("indexes", index) for index in batch.indexes],
            corpus=LINKING.embedded_corpus,
            kb=LINKING.ngram_weights,
            found=LINKING.each_index(batch, LINKING.candidate_names),
            xrefs=LINKING.once(batch, LINKING.preferred_codes),
            versions=raised("normalization.link"),
        output:
            predictions=LINKING.files_of(BASELINE_CELL, batch, "predictions"),
            calibrations=LINKING.files_of(BASELINE_CELL, batch, "calibration"),
        log:
            RESULTS.log(LINKING.job_of(BASELINE_CELL, batch)),
        benchmark:
            RESULTS.benchmark(LINKING.job_of(BASELINE_CELL, batch))
        wildcard_constraints:
            corpus=batch.first_level(one_of(CONFIG.corpora)),
            linker=one_of(LINKING.searching),
        conda:
            "../../envs/mentionforge.yaml"
        resources:
            **NEEDS,
        params:
            more=flags(indexes="--index", kb="--kb", found="--found", xrefs="--xrefs"),
            outputs=output_flags(predictions="--out", calibrations="--calibration"),
        message:
            f"link {{wildcards.corpus}} with {{wildcards.linker}} on {batch.message}"
        shell:
            "mentionforge normalization link --spec {input.spec:q} --corpus {input.corpus:q} {params.more} {params.outputs} 2>&1 | tee {log:q}"

    rule:
        name:
            f"link_augmented{batch.suffix}"
        input:
            spec=spec_of("linkers", "{linker}"),
            indexes=[spec_of("indexes", index) for index in batch.indexes],
            corpus=LINKING.embedded_corpus,
            kb=LINKING.ngram_weights,
            found=LINKING.each_index(batch, LINKING.candidate_names),
            xrefs=LINKING.once(batch, LINKING.preferred_codes),
            synthetic=LINKING.embedded_generator,
            chosen=RESULTS.chosen("{corpus}", "{generator}", "{strategy}"),
            versions=raised("normalization.link"),
        output:
            predictions=LINKING.files_of(CELL, batch, "predictions"),
            calibrations=LINKING.files_of(CELL, batch, "calibration"),
        log:
            RESULTS.log(LINKING.job_of(CELL, batch)),
        benchmark:
            RESULTS.benchmark(LINKING.job_of(CELL, batch))
        wildcard_constraints:
            corpus=batch.first_level(one_of(CONFIG.corpora)),
            linker=one_of(LINKING.searching),
        conda:
            "../../envs/mentionforge.yaml"
        resources:
            **NEEDS,
        params:
            more=flags(indexes="--index", kb="--kb", found="--found", xrefs="--xrefs", synthetic="--synthetic", chosen="--chosen"),
            outputs=output_flags(predictions="--out", calibrations="--calibration"),
        message:
            f"link {{wildcards.corpus}} with {{wildcards.linker}} on {batch.message} and {{wildcards.generator}} by {{wildcards.strategy}}"
        shell:
            "mentionforge normalization link --spec {input.spec:q} --corpus {input.corpus:q} {params.more} {params.outputs} 2>&1 | tee {log:q}"

    rule:
        name:
            f"fuse{batch.suffix}"
        input:
            spec=spec_of("linkers", "{linker}"),
            predictions=LINKING.each_index(batch, LINKING.of_read_linkers("predictions")),
            calibrations=LINKING.each_index(batch, LINKING.of_read_linkers("calibration")),
            mentions=RESULTS.corpus("{corpus}", "mentions.parquet"),
        output:
            predictions=LINKING.files_of(CELL, batch, "predictions"),
            calibrations=LINKING.files_of(CELL, batch, "calibration"),
        log:
            RESULTS.log(LINKING.job_of(CELL, batch)),
        benchmark:
            RESULTS.benchmark(LINKING.job_of(CELL, batch))
        wildcard_constraints:
            corpus=batch.first_level(one_of(CONFIG.corpora)),
            linker=one_of(LINKING.hybrids),
            generator=one_of([NONE, *CONFIG.generators]),
            strategy=one_of(CONFIG.strategies),
        conda:
            "../../envs/mentionforge.yaml"
        resources:
            **NEEDS,
        params:
            more=flags(predictions="--predictions", calibrations="--calibrations"),
            outputs=output_flags(predictions="--out", calibrations="--calibration"),
        message:
            f"fuse the linkers of {{wildcards.linker}} for {{wildcards.corpus}} on {batch.message} and {{wildcards.generator}} by {{wildcards.strategy}}"
        shell:
            "mentionforge normalization fuse --spec {input.spec:q} {params.more} --mentions {input.mentions:q} {params.outputs} 2>&1 | tee {log:q}"

    rule:
        name:
            f"rerank{batch.suffix}"
        input:
            spec=spec_of("linkers", "{linker}"),
            model=RESULTS.reranker("{linker}", "{corpus}"),
            kb=kb_tables("corpora", "concepts"),
            corpus=CORPUS_TABLES,
            predictions=LINKING.each_index(batch, LINKING.of_read_linkers("predictions")),
            calibrations=LINKING.each_index(batch, LINKING.of_read_linkers("calibration")),
        output:
            predictions=LINKING.files_of(CELL, batch, "predictions"),
            calibrations=LINKING.files_of(CELL, batch, "calibration"),
        log:
            RESULTS.log(LINKING.job_of(CELL, batch)),
        benchmark:
            RESULTS.benchmark(LINKING.job_of(CELL, batch))
        wildcard_constraints:
            corpus=batch.first_level(one_of(CONFIG.corpora)),
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
            more=flags(predictions="--predictions", calibrations="--calibrations"),
            outputs=output_flags(predictions="--out", calibrations="--calibration"),
        message:
            f"rerank {{wildcards.corpus}} with {{wildcards.linker}} on {batch.message} and {{wildcards.generator}} by {{wildcards.strategy}}"
        shell:
            "mentionforge normalization rerank --spec {input.spec:q} --model {input.model:q} --kb {params.kb:q} --corpus {params.corpus:q}"
            " {params.more} {params.outputs} 2>&1 | tee {log:q}"
