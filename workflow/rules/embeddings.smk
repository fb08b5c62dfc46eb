"""Embeddings: names, gold mentions and synthetic mentions, once per encoder and source.

An encoder is a linker's name, or LINKER@CORPUS for one that is trained here on that corpus.

REQUIRED INPUTS
    {results}/kb/{kb}/names.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet, {results}/generation/{generator}/{located,mentions}.parquet
    {resources}/models/{model}/fetched.json, {results}/alignment/{linker}/{corpus}/fetched.json
OUTPUTS
    {results}/embeddings/{encoder}/{kb,corpus,generator}.{name}/{entries.parquet,vectors.npy}
"""


rule embed_kb:
    """Embed every distinct name of a knowledge base once."""
    input:
        spec=LINKING.encoder_spec,
        model=LINKING.encoder_weights,
        names=RESULTS.kb("{kb}", "names.parquet"),
        versions=raised("normalization.embed"),
    output:
        entries=RESULTS.embedded("{encoder}", "kb", "{kb}"),
        vectors=RESULTS.embedded("{encoder}", "kb", "{kb}", "vectors.npy"),
    log:
        RESULTS.log("embeddings/{encoder}/kb.{kb}"),
    benchmark:
        RESULTS.benchmark("embeddings/{encoder}/kb.{kb}")
    cache: CACHING
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        model=flags(model="--model"),
        out=subpath(output.entries, parent=True),
    message:
        "embed the names of {wildcards.kb} with {wildcards.encoder}"
    shell:
        "mentionforge normalization embed-kb --spec {input.spec:q} {params.model} --names {input.names:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule embed_corpus:
    """Embed every gold mention of a corpus that has a concept."""
    input:
        spec=LINKING.encoder_spec,
        model=LINKING.encoder_weights,
        corpus=CORPUS_TABLES,
        versions=raised("normalization.embed"),
    output:
        entries=RESULTS.embedded("{encoder}", "corpus", "{corpus}"),
        vectors=RESULTS.embedded("{encoder}", "corpus", "{corpus}", "vectors.npy"),
    log:
        RESULTS.log("embeddings/{encoder}/corpus.{corpus}"),
    benchmark:
        RESULTS.benchmark("embeddings/{encoder}/corpus.{corpus}")
    cache: CACHING
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        model=flags(model="--model"),
        corpus=parent_of("corpus"),
        out=subpath(output.entries, parent=True),
    message:
        "embed the mentions of {wildcards.corpus} with {wildcards.encoder}"
    shell:
        "mentionforge normalization embed-corpus --spec {input.spec:q} {params.model} --corpus {params.corpus:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule embed_generator:
    """Embed every located synthetic mention of a generator."""
    input:
        spec=LINKING.encoder_spec,
        model=LINKING.encoder_weights,
        synthetic=SYNTHETIC_TABLES,
        versions=raised("normalization.embed"),
    output:
        entries=RESULTS.embedded("{encoder}", "generator", "{generator}"),
        vectors=RESULTS.embedded("{encoder}", "generator", "{generator}", "vectors.npy"),
    log:
        RESULTS.log("embeddings/{encoder}/generator.{generator}"),
    benchmark:
        RESULTS.benchmark("embeddings/{encoder}/generator.{generator}")
    cache: CACHING
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        model=flags(model="--model"),
        synthetic=parent_of("synthetic"),
        out=subpath(output.entries, parent=True),
    message:
        "embed the mentions of {wildcards.generator} with {wildcards.encoder}"
    shell:
        "mentionforge normalization embed-generator --spec {input.spec:q} {params.model} --synthetic {params.synthetic:q} --out {params.out:q} 2>&1 | tee {log:q}"
