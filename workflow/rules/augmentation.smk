"""Augmentation: which synthetic notes join a corpus' training split.

REQUIRED INPUTS
    {results}/generation/{generator}/{located,mentions}.parquet
    {results}/corpora/{corpus}/mentions.parquet
    {results}/leakage/{corpus}/{generator}.csv: no notes are chosen before they are compared with the test documents
OUTPUTS
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet
"""


rule augment:
    """Choose the notes whose concept the strategy admits, by the concepts of the corpus' training and test splits."""
    input:
        spec=spec_of("strategies", "{strategy}"),
        located=RESULTS.generation("{generator}", "located.parquet"),
        mentions=RESULTS.corpus("{corpus}", "mentions.parquet"),
        leakage=RESULTS.leakage("{corpus}", "{generator}"),
    output:
        RESULTS.chosen("{corpus}", "{generator}", "{strategy}"),
    log:
        RESULTS.log("augmentation/{corpus}/{generator}/{strategy}"),
    benchmark:
        RESULTS.benchmark("augmentation/{corpus}/{generator}/{strategy}")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    message:
        "choose notes of {wildcards.generator} for {wildcards.corpus} by {wildcards.strategy}"
    shell:
        "mentionforge augmentation choose --spec {input.spec:q} --located {input.located:q} --mentions {input.mentions:q} --out {output:q} 2>&1 | tee {log:q}"
