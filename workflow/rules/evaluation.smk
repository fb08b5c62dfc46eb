"""Evaluation: predictions become metrics, overall and per OOD bucket, and differences with intervals; one table per task and corpus.

REQUIRED INPUTS
    {results}/{recognition,normalization}/{corpus}/**/predictions.parquet of every cell of the experiment
    {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet, {results}/kb/{kb}/{concepts,names,parents}.parquet
OUTPUTS
    {results}/evaluation/{recognition,normalization,nil}/{corpus}.parquet, {recognition,normalization}/{corpus}.errors.parquet
    {results}/statistics/{recognition,normalization}/{corpus}/{comparisons,changes}.parquet
"""

from mentionforge.dag.evaluation import EvaluationInputs

EVALUATION = EvaluationInputs(CONFIG)


rule evaluate_recognition:
    """Score recognition: strict, partial and token precision, recall and F1, strict ones also per OOD bucket; list every error with its offsets."""
    input:
        spec=spec_of("evaluation", "recognition"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        predictions=EVALUATION.recognition_predictions,
        cross=EVALUATION.cross_predictions,
        sources=EVALUATION.cross_sources,
    output:
        metrics=RESULTS.scores("recognition", "{corpus}"),
        errors=RESULTS.errors("recognition", "{corpus}"),
    log:
        RESULTS.log("evaluation/recognition/{corpus}"),
    benchmark:
        RESULTS.benchmark("evaluation/recognition/{corpus}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        base=RESULTS.cells("recognition"),
        sources=each_folder("sources", "--source"),
    message:
        "score recognition on {wildcards.corpus}"
    shell:
        "mentionforge evaluation recognition --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} --base {params.base:q} {params.sources}"
        " --out {output.metrics:q} --errors {output.errors:q} {input.predictions:q} {input.cross:q} 2>&1 | tee {log:q}"


rule evaluate_normalization:
    """Score normalization: accuracy at 1, 5, 10, 50, 100 and mean reciprocal rank, overall and per OOD bucket; wrong concepts by hierarchy."""
    input:
        spec=spec_of("evaluation", "normalization"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        predictions=EVALUATION.normalization_predictions,
        calibrations=EVALUATION.normalization_calibrations,
        parents=kb_tables("corpora", "parents"),
    output:
        metrics=RESULTS.scores("normalization", "{corpus}"),
        errors=RESULTS.errors("normalization", "{corpus}"),
        nil=RESULTS.scores("nil", "{corpus}"),
    log:
        RESULTS.log("evaluation/normalization/{corpus}"),
    benchmark:
        RESULTS.benchmark("evaluation/normalization/{corpus}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        base=RESULTS.cells("normalization"),
    message:
        "score normalization on {wildcards.corpus}"
    shell:
        "mentionforge evaluation normalization --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} --base {params.base:q}"
        " --out {output.metrics:q} --nil {output.nil:q} --parents {input.parents:q} --errors {output.errors:q} {input.predictions:q} 2>&1 | tee {log:q}"


rule compare:
    """Compare cells: differences with intervals and p values, corrected over families; mentions that each strategy fixes and breaks."""
    input:
        spec=spec_of("statistics", "compare"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        kb=kb_tables("corpora", "concepts", "names"),
        chosen=EVALUATION.chosen_notes,
        predictions=branch(EVALUATION.is_recognition, then=EVALUATION.recognition_predictions, otherwise=EVALUATION.normalization_predictions),
    output:
        comparisons=RESULTS.statistics("{task}", "{corpus}", "comparisons"),
        changes=RESULTS.statistics("{task}", "{corpus}", "changes"),
    log:
        RESULTS.log("statistics/{task}/{corpus}"),
    benchmark:
        RESULTS.benchmark("statistics/{task}/{corpus}")
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        kb=parent_of("kb"),
        base=RESULTS.cells("{task}"),
        out=subpath(output.comparisons, parent=True),
        chosen=flags(chosen="--chosen"),
        references=EVALUATION.reference_flags,
        statistics=CONFIG.statistics.model_dump_json(),
    message:
        "compare the {wildcards.task} cells of {wildcards.corpus}"
    shell:
        "mentionforge evaluation compare --task {wildcards.task} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} --kb {params.kb:q}"
        " --base {params.base:q} {params.chosen} {params.references} --statistics {params.statistics:q}"
        " --threads {threads} --out {params.out:q}"
        " {input.predictions:q} 2>&1 | tee {log:q}"
