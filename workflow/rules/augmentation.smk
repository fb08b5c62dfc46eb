"""Augmentation: which synthetic notes join a corpus' training split.

REQUIRED INPUTS
    {results}/generation/{generator}/{located,mentions}.parquet
    {results}/corpora/{corpus}/mentions.parquet
    {results}/leakage/{corpus}/{generator}.csv, so that leaking notes are never chosen
OUTPUTS
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet
"""


rule augment:
    """Keep the notes whose concept the strategy admits, against the corpus' train and test concepts."""
    input:
        spec=spec_of("strategies", "{strategy}"),
        located=f"{R}/generation/{{generator}}/located.parquet",
        mentions=f"{R}/corpora/{{corpus}}/mentions.parquet",
        leakage=f"{R}/leakage/{{corpus}}/{{generator}}.csv",
    output:
        f"{R}/augmentation/{{corpus}}/{{generator}}/{{strategy}}/notes.parquet",
    log:
        f"{R}/logs/augmentation/{{corpus}}/{{generator}}/{{strategy}}.log",
    benchmark:
        f"{R}/benchmarks/augmentation/{{corpus}}/{{generator}}/{{strategy}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    message:
        "choose notes of {wildcards.generator} for {wildcards.corpus} by {wildcards.strategy}"
    shell:
        "mentionforge augmentation choose --spec {input.spec:q} --located {input.located:q} --mentions {input.mentions:q} --out {output:q} 2>&1 | tee {log:q}"
