"""End to end: predicted mentions are linked, and scored by span and concept.

REQUIRED INPUTS
    {results}/recognition/{corpus}/{generator}/{strategy}/{recognizer}/{schedule}/seed{seed}/predictions.parquet
    {results}/corpora/{corpus}/{documents,mentions}.parquet, {results}/embeddings/{encoder}/{kb,generator}.{name}/entries.parquet
OUTPUTS
    {results}/end_to_end/{corpus}/{generator}/{strategy}/{recognizer}/{schedule}/seed{seed}/{documents,mentions}.parquet
    {results}/end_to_end/{corpus}/{generator}/{strategy}/{recognizer}/{schedule}/seed{seed}/{linker}/{index}/linked.parquet
    {results}/evaluation/end_to_end/{corpus}.parquet
"""

from mentionforge.layout import RecognitionCell

RUN = RecognitionCell("{corpus}", "{generator}", "{strategy}", "{recognizer}", "{schedule}", "{seed}")


rule predicted_mentions:
    """Write the mentions that a recognizer predicted in the tables of a corpus."""
    input:
        predictions=RESULTS.recognition(RUN),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        versions=raised("recognition.mentions"),
    output:
        documents=RESULTS.predicted(RUN, "documents.parquet"),
        mentions=RESULTS.predicted(RUN, "mentions.parquet"),
    log:
        RESULTS.log(f"end_to_end/{RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"end_to_end/{RUN.path}")
    wildcard_constraints:
        generator=one_of([NONE, *CONFIG.generators]),
        strategy=one_of(CONFIG.strategies),
        schedule=one_of([*(schedule.name for schedule in SCHEDULES), UNTRAINED, EXTERNAL]),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        out=subpath(output.mentions, parent=True),
    message:
        "mentions that {wildcards.recognizer} found in {wildcards.corpus}"
    shell:
        "mentionforge recognition mentions --predictions {input.predictions:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


for batch in END_TO_END.batches:

    rule:
        name:
            f"link_predicted{batch.suffix}"
        input:
            spec=spec_of("linkers", "{linker}"),
            indexes=[spec_of("indexes", index) for index in batch.indexes],
            corpus=[RESULTS.predicted(RUN, f"{table}.parquet") for table in ("documents", "mentions")],
            model=END_TO_END.linker_weights,
            kb=END_TO_END.once(batch, END_TO_END.names_or_weights),
            names=END_TO_END.once(batch, END_TO_END.searched_names("names")),
            xrefs=END_TO_END.once(batch, END_TO_END.searched_names("xrefs")),
            synthetic=END_TO_END.synthetic_of_cell,
            chosen=END_TO_END.chosen_of_cell,
            versions=raised("normalization.embed", "normalization.link"),
        output:
            linked=[RESULTS.linked(RUN, "{linker}", index) for index in batch.indexes],
        log:
            RESULTS.log(batch.job(f"end_to_end/{RUN.path}/{{linker}}")),
        benchmark:
            RESULTS.benchmark(batch.job(f"end_to_end/{RUN.path}/{{linker}}"))
        wildcard_constraints:
            corpus=batch.first_level(one_of(CONFIG.corpora)),
            linker=one_of(END_TO_END.searching),
            generator=one_of([NONE, *CONFIG.generators]),
            strategy=one_of(CONFIG.strategies),
            schedule=one_of([*(schedule.name for schedule in SCHEDULES), UNTRAINED, EXTERNAL]),
        conda:
            "../../envs/mentionforge.yaml"
        threads: 2
        resources:
            **NEEDS,
        params:
            corpus=parent_of("corpus"),
            more=flags(indexes="--index", model="--model", kb="--kb", names="--names", xrefs="--xrefs", synthetic="--synthetic", chosen="--chosen"),
            outputs=output_flags(linked="--out"),
        message:
            f"link what {{wildcards.recognizer}} found in {{wildcards.corpus}} with {{wildcards.linker}} on {batch.message}"
        shell:
            "mentionforge normalization link-predicted --spec {input.spec:q} --corpus {params.corpus:q} {params.more} {params.outputs} 2>&1 | tee {log:q}"


rule evaluate_end_to_end:
    """Score span and concept together by precision, recall and F1, as SemEval did."""
    input:
        spec=spec_of("evaluation", "end_to_end"),
        corpus=RESULTS.corpus("{corpus}", "mentions.parquet"),
        linked=END_TO_END.linked_predictions,
    output:
        RESULTS.scores("end_to_end", "{corpus}"),
    log:
        RESULTS.log("evaluation/end_to_end/{corpus}"),
    benchmark:
        RESULTS.benchmark("evaluation/end_to_end/{corpus}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        base=RESULTS.cells("end_to_end"),
    message:
        "score {wildcards.corpus} end to end"
    shell:
        "mentionforge evaluation end-to-end --corpus {params.corpus:q} --base {params.base:q} --out {output:q} {input.linked:q} 2>&1 | tee {log:q}"
