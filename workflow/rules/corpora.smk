"""Corpora: annotated text becomes documents and mentions with exact offsets, CUI sets and OOD buckets.

REQUIRED INPUTS
    the files or folders of corpora.{corpus}.source and .splits
    {results}/kb/{kb}/{names,xrefs,retired}.parquet, to map ids to CUIs
OUTPUTS
    {results}/corpora/{corpus}/{documents,mentions}.parquet, split.csv, unmapped.csv, duplicates.csv, stats.json
"""


rule corpus_read:
    """Read a corpus, check every offset, map ids to CUI sets, assign OOD buckets against the training split."""
    input:
        spec=spec_of("corpora", "{corpus}"),
        files=corpus_files,
        kb=kb_tables("corpora", "names", "xrefs", "retired"),
    output:
        documents=f"{R}/corpora/{{corpus}}/documents.parquet",
        mentions=f"{R}/corpora/{{corpus}}/mentions.parquet",
        split=f"{R}/corpora/{{corpus}}/split.csv",
        unmapped=f"{R}/corpora/{{corpus}}/unmapped.csv",
        duplicates=f"{R}/corpora/{{corpus}}/duplicates.csv",
        stats=f"{R}/corpora/{{corpus}}/stats.json",
    log:
        f"{R}/logs/corpora/{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/corpora/{{corpus}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        kb=parent_of("kb"),
        out=subpath(output.documents, parent=True),
    message:
        "read corpus {wildcards.corpus}"
    shell:
        "mentionforge corpora read --spec {input.spec:q} --kb {params.kb:q} --out {params.out:q} 2>&1 | tee {log:q}"
