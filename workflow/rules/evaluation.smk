"""Evaluation: predictions become metrics, overall and per OOD bucket, one table per task and corpus.

REQUIRED INPUTS
    {results}/{recognition,normalization}/{corpus}/**/predictions.parquet of every cell of the experiment
    {results}/corpora/{corpus}/{documents,mentions}.parquet
OUTPUTS
    {results}/evaluation/{recognition,normalization}/{corpus}.parquet
"""


rule evaluate_recognition:
    """Strict entity precision, recall and F1, and recall per OOD bucket."""
    input:
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        predictions=recognition_predictions,
    output:
        f"{R}/evaluation/recognition/{{corpus}}.parquet",
    log:
        f"{R}/logs/evaluation/recognition/{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/recognition/{{corpus}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        corpus=parent_of("corpus"),
        base=f"{R}/recognition",
    message:
        "score recognition on {wildcards.corpus}"
    shell:
        "mentionforge evaluation recognition --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} --base {params.base:q}"
        " --out {output:q} {input.predictions:q} 2>&1 | tee {log:q}"


rule evaluate_normalization:
    """Accuracy at 1, 5, 10, 50, 100 and mean reciprocal rank, overall and per OOD bucket."""
    input:
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        predictions=normalization_predictions,
    output:
        f"{R}/evaluation/normalization/{{corpus}}.parquet",
    log:
        f"{R}/logs/evaluation/normalization/{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/evaluation/normalization/{{corpus}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        corpus=parent_of("corpus"),
        base=f"{R}/normalization",
    message:
        "score normalization on {wildcards.corpus}"
    shell:
        "mentionforge evaluation normalization --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} --base {params.base:q}"
        " --out {output:q} {input.predictions:q} 2>&1 | tee {log:q}"
