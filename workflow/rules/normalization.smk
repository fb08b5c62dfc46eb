"""Normalization: embeddings once per linker and source, names searched once per corpus, then ranked concepts of every mention.

An encoder is a linker's name, or LINKER@CORPUS for one that is trained here on that corpus.

REQUIRED INPUTS
    {results}/kb/{kb}/{names,xrefs}.parquet, {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/generation/{generator}/{located,mentions}.parquet, {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/{alignment,reranking}/{linker}/{corpus}/fetched.json
    {results}/embeddings/{encoder}/{kb,corpus,generator}.{name}/{entries.parquet,vectors.npy}
    {results}/retrieval/{corpus}/{linker}/{index}/found.parquet
    {results}/normalization/{corpus}/{generator}/{strategy}/{linker}/{index}/{predictions,calibration}.parquet
"""


rule embed_kb:
    """Embed every distinct name of a knowledge base once."""
    input:
        spec=encoder_spec,
        model=encoder_weights,
        names=f"{R}/kb/{{kb}}/names.parquet",
        versions=raised("normalization.embed"),
    output:
        entries=f"{R}/embeddings/{{encoder}}/kb.{{kb}}/entries.parquet",
        vectors=f"{R}/embeddings/{{encoder}}/kb.{{kb}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{encoder}}/kb.{{kb}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{encoder}}/kb.{{kb}}.tsv"
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
        spec=encoder_spec,
        model=encoder_weights,
        corpus=CORPUS_TABLES,
        versions=raised("normalization.embed"),
    output:
        entries=f"{R}/embeddings/{{encoder}}/corpus.{{corpus}}/entries.parquet",
        vectors=f"{R}/embeddings/{{encoder}}/corpus.{{corpus}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{encoder}}/corpus.{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{encoder}}/corpus.{{corpus}}.tsv"
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
        spec=encoder_spec,
        model=encoder_weights,
        synthetic=SYNTHETIC_TABLES,
        versions=raised("normalization.embed"),
    output:
        entries=f"{R}/embeddings/{{encoder}}/generator.{{generator}}/entries.parquet",
        vectors=f"{R}/embeddings/{{encoder}}/generator.{{generator}}/vectors.npy",
    log:
        f"{R}/logs/embeddings/{{encoder}}/generator.{{generator}}.log",
    benchmark:
        f"{R}/benchmarks/embeddings/{{encoder}}/generator.{{generator}}.tsv"
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


rule search_names:
    """Search the names of a knowledge base for every mention of a corpus."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=embedded_corpus,
        kb=embedded_kb,
        tables=kb_tables("corpora", "names", "xrefs"),
        versions=raised("normalization.link"),
    output:
        f"{R}/retrieval/{{corpus}}/{{linker}}/{{index}}/found.parquet",
    log:
        f"{R}/logs/retrieval/{{corpus}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/retrieval/{{corpus}}/{{linker}}/{{index}}.tsv"
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


rule link_baseline:
    """Rank concepts for every mention of dev and test, without synthetic mentions."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=embedded_corpus,
        kb=ngram_weights,
        found=found_names,
        xrefs=preferred_codes,
        versions=raised("normalization.link"),
    output:
        predictions=f"{R}/normalization/{{corpus}}/none/none/{{linker}}/{{index}}/predictions.parquet",
        calibration=f"{R}/normalization/{{corpus}}/none/none/{{linker}}/{{index}}/calibration.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/none/none/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/none/none/{{linker}}/{{index}}.tsv"
    wildcard_constraints:
        linker=one_of(SEARCHING),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(kb="--kb", found="--found", xrefs="--xrefs"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.more}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule link_augmented:
    """Rank concepts for every mention of dev and test, with the strategy's synthetic mentions in the index."""
    input:
        spec=spec_of("linkers", "{linker}"),
        index=spec_of("indexes", "{index}"),
        corpus=embedded_corpus,
        kb=ngram_weights,
        found=found_names,
        xrefs=preferred_codes,
        synthetic=embedded_generator,
        chosen=f"{R}/augmentation/{{corpus}}/{{generator}}/{{strategy}}/notes.parquet",
        versions=raised("normalization.link"),
    output:
        predictions=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/predictions.parquet",
        calibration=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/calibration.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.tsv"
    wildcard_constraints:
        linker=one_of(SEARCHING),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(kb="--kb", found="--found", xrefs="--xrefs"),
    message:
        "link {wildcards.corpus} with {wildcards.linker} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization link --spec {input.spec:q} --index {input.index:q} --corpus {input.corpus:q} {params.more}"
        " --synthetic {input.synthetic:q} --chosen {input.chosen:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule fuse:
    """Fuse the rankings of several linkers on the same cell."""
    input:
        spec=spec_of("linkers", "{linker}"),
        predictions=parts("predictions"),
        calibrations=parts("calibration"),
        mentions=f"{R}/corpora/{{corpus}}/mentions.parquet",
    output:
        predictions=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/predictions.parquet",
        calibration=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/calibration.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.tsv"
    wildcard_constraints:
        linker=one_of(HYBRIDS),
        generator=one_of([NONE, *CONFIG.generators]),
        strategy=one_of(CONFIG.strategies),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        more=flags(predictions="--predictions", calibrations="--calibrations"),
    message:
        "fuse the linkers of {wildcards.linker} for {wildcards.corpus} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization fuse --spec {input.spec:q} {params.more} --mentions {input.mentions:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule align:
    """Train a mention encoder on synonyms and, if asked, on training and synthetic mentions; dev says when to stop."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=model_of("linkers"),
        kb=kb_tables("corpora", "names", "xrefs"),
        mentions=f"{R}/corpora/{{corpus}}/mentions.parquet",
        synthetic=aligned_synthetic,
    output:
        f"{R}/alignment/{{linker}}/{{corpus}}/fetched.json",
    log:
        f"{R}/logs/alignment/{{linker}}/{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/alignment/{{linker}}/{{corpus}}.tsv"
    wildcard_constraints:
        linker=one_of(ALIGNED),
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
        embedded=first_stage(embedded_corpus),
        found=first_stage(found_names),
    output:
        f"{R}/reranking/{{linker}}/{{corpus}}/fetched.json",
    log:
        f"{R}/logs/reranking/{{linker}}/{{corpus}}.log",
    benchmark:
        f"{R}/benchmarks/reranking/{{linker}}/{{corpus}}.tsv"
    wildcard_constraints:
        linker=one_of(RERANKERS),
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


rule rerank:
    """Order the first concepts of a linker's rankings anew, on the same cell."""
    input:
        spec=spec_of("linkers", "{linker}"),
        model=f"{R}/reranking/{{linker}}/{{corpus}}/fetched.json",
        kb=kb_tables("corpora", "concepts"),
        corpus=CORPUS_TABLES,
        predictions=parts("predictions"),
        calibrations=parts("calibration"),
    output:
        predictions=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/predictions.parquet",
        calibration=f"{R}/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}/calibration.parquet",
    log:
        f"{R}/logs/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.log",
    benchmark:
        f"{R}/benchmarks/normalization/{{corpus}}/{{generator}}/{{strategy}}/{{linker}}/{{index}}.tsv"
    wildcard_constraints:
        linker=one_of(RERANKERS),
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
    message:
        "rerank {wildcards.corpus} with {wildcards.linker} on {wildcards.index} and {wildcards.generator} by {wildcards.strategy}"
    shell:
        "mentionforge normalization rerank --spec {input.spec:q} --model {input.model:q} --kb {params.kb:q} --corpus {params.corpus:q}"
        " --predictions {input.predictions:q} --calibrations {input.calibrations:q}"
        " --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"
