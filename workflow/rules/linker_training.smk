"""Training of linkers: encoders of mentions and cross-encoders, one per linker and corpus.

REQUIRED INPUTS
    {results}/kb/{kb}/{concepts,names,xrefs}.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/generation/{generator}/{located,mentions}.parquet, {resources}/models/{model}/fetched.json
    {results}/embeddings/{encoder}/corpus.{corpus}/entries.parquet, {results}/retrieval/{corpus}/{linker}/{index}/found.parquet
OUTPUTS
    {results}/{alignment,reranking}/{linker}/{corpus}/fetched.json
"""


rule align:
    """Train a mention encoder on synonyms and, by the settings, on training and synthetic mentions; stop by the dev split."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        kb=kb_tables("corpora", "names", "xrefs"),
        mentions=RESULTS.corpus("{corpus}", "mentions.parquet"),
        synthetic=LINKING.aligned_synthetic,
    output:
        RESULTS.encoder("{linker}", "{corpus}"),
    log:
        RESULTS.log("alignment/{linker}/{corpus}"),
    benchmark:
        RESULTS.benchmark("alignment/{linker}/{corpus}")
    wildcard_constraints:
        linker=one_of(LINKING.aligned),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        more=folder_flags(synthetic="--synthetic"),
        out=subpath(output[0], parent=True),
    message:
        "train the encoder of {wildcards.linker} on {wildcards.corpus}"
    shell:
        "mentionforge normalization align --spec {input.spec:q} --model {input.model:q} --kb {params.kb:q} --mentions {input.mentions:q}"
        " {params.more} --out {params.out:q} 2>&1 | tee {log:q}"


rule rerank_train:
    """Train a cross-encoder on training mentions, their concepts and the first stage's wrong candidates."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        kb=kb_tables("corpora", "concepts"),
        corpus=CORPUS_TABLES,
        embedded=LINKING.first_stage(LINKING.embedded_corpus),
        found=LINKING.first_stage(LINKING.candidate_names),
    output:
        RESULTS.reranker("{linker}", "{corpus}"),
    log:
        RESULTS.log("reranking/{linker}/{corpus}"),
    benchmark:
        RESULTS.benchmark("reranking/{linker}/{corpus}")
    wildcard_constraints:
        linker=one_of(LINKING.rerankers),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        corpus=parent_of("corpus"),
        out=subpath(output[0], parent=True),
    message:
        "train the cross-encoder of {wildcards.linker} on {wildcards.corpus}"
    shell:
        "mentionforge normalization rerank-train --spec {input.spec:q} --model {input.model:q} --kb {params.kb:q} --corpus {params.corpus:q}"
        " --embedded {input.embedded:q} --found {input.found:q} --out {params.out:q} 2>&1 | tee {log:q}"
