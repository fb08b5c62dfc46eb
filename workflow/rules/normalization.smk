"""Normalization: embeddings once per linker and source, then ranked concepts of every test mention.

REQUIRED INPUTS
    {results}/kb/{kb}/names.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/generation/{generator}/{located,mentions}.parquet, {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/embeddings/{linker}/{kb,corpus,generator}.{name}/{entries.parquet,vectors.npy}
    {results}/normalization/{corpus}/{generator}/{strategy}/{linker}/{index}/predictions.parquet
"""


rule embed_kb:
    """Embed every distinct name of a knowledge base once."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        names=f"{R}/kb/{{kb}}/names.parquet",
    output:
        entries=f"{R}/embeddings/{{linker}}/kb.{{kb}}/entries.parquet",
        vectors=f"{R}/embeddings/{{linker}}/kb.{{kb}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{linker}}/kb.{{kb}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{linker}}/kb.{{kb}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    params:
        out=subpath(output.entries, parent=True),
    message:
        "embed the names of {wildcards.kb} with {wildcards.linker}"
    shell:
        "mentionforge normalization embed-kb --spec {input.spec:q} --model {input.model:q} --names {input.names:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule embed_corpus:
    """Embed every gold mention of a corpus that has a concept."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        corpus=CORPUS_TABLES,
    output:
        entries=f"{R}/embeddings/{{linker}}/corpus.{{corpus}}/entries.parquet",
        vectors=f"{R}/embeddings/{{linker}}/corpus.{{corpus}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{linker}}/corpus.{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{linker}}/corpus.{{corpus}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        corpus=parent_of("corpus"),
        out=subpath(output.entries, parent=True),
    message:
        "embed the mentions of {wildcards.corpus} with {wildcards.linker}"
    shell:
        "mentionforge normalization embed-corpus --spec {input.spec:q} --model {input.model:q} --corpus {params.corpus:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule embed_generator:
    """Embed every located synthetic mention of a generator."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        synthetic=SYNTHETIC_TABLES,
    output:
        entries=f"{R}/embeddings/{{linker}}/generator.{{generator}}/entries.parquet",
        vectors=f"{R}/embeddings/{{linker}}/generator.{{generator}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{linker}}/generator.{{generator}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{linker}}/generator.{{generator}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        synthetic=parent_of("synthetic"),
        out=subpath(output.entries, parent=True),
    message:
        "embed the mentions of {wildcards.generator} with {wildcards.linker}"
    shell:
        "mentionforge normalization embed-generator --spec {input.spec:q} --model {input.model:q} --synthetic {params.synthetic:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule link_baseline:
    """Rank concepts for every test mention, without synthetic mentions."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=f"{R}/embeddings/{{linker}}/corpus.{{corpus}}/entries.parquet",
        kb=index_kb,
    output:
        f"{R}/normalization/{{corpus}}/none/none/{{linker}}/{{index}}/predictions.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/none/none/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/none/none/{{linker}}/{{index}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        kb=flags(kb="--kb"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.kb} --out {output:q} 2>&1 | tee {log:q}"


rule link_augmented:
    """Rank concepts for every test mention, with the strategy's synthetic mentions in the index."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=f"{R}/embeddings/{{linker}}/corpus.{{corpus}}/entries.parquet",
        kb=index_kb,
        synthetic=f"{R}/embeddings/{{linker}}/generator.{{generator}}/entries.parquet",
        chosen=f"{R}/augmentation/{{corpus}}/{{generator}}/{{strategy}}/notes.parquet",
    output:
        f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/predictions.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        kb=flags(kb="--kb"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.kb}"
        " --synthetic {input.synthetic:q} --chosen {input.chosen:q} --out {output:q} 2>&1 | tee {log:q}"
