"""Generation: concepts become prompts, notes and located mentions; controls write notes without a language model.

REQUIRED INPUTS
    {results}/kb/{kb}/{concepts,names}.parquet
    {results}/corpora/{corpus}/{documents,mentions}.parquet of the corpora that choose the concepts, are read, or are compared with notes
    {results}/generation/{generator}/adapter/
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/generation/{generator}/{prompts,notes,located,mentions,rejected}.parquet, shards/, found/, throughput.csv,
    funnel.json and .svg, filters.csv, diversity.csv, examples.jsonl
"""

from mentionforge.dag.generation import GenerationInputs, from_checkout

GENERATION = GenerationInputs(CONFIG)


rule prompts:
    """Write one prompt per note, with or without a definition."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names", "xrefs"),
        mentions=GENERATION.concepts_corpus,
        cuis=GENERATION.concepts_list,
        replay=GENERATION.replayed,
        corpus=GENERATION.read_corpus,
        parents=GENERATION.parents_asked,
        versions=GENERATION.raised_of_prompts,
    output:
        RESULTS.generation("{generator}", "prompts.parquet"),
    log:
        RESULTS.log("generation/{generator}/prompts"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/prompts")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        extra=joined(flags(mentions="--mentions", replay="--replay"), folder_flags(corpus="--corpus")),
    message:
        "prompts of {wildcards.generator}"
    shell:
        "mentionforge generation prompts --spec {input.spec:q} --kb {params.kb:q} {params.extra} --out {output:q} 2>&1 | tee {log:q}"


rule sample:
    """Write the notes of one shard of the prompts; a killed shard continues where it stopped. The backend openai sends requests to a server."""
    input:
        spec=spec_of("generators", "{generator}/sampling"),
        model=GENERATION.weights,
        prompts=RESULTS.generation("{generator}", "prompts.parquet"),
        adapter=GENERATION.adapter,
        versions=GENERATION.raised_of_backend,
    output:
        notes=RESULTS.shard("{generator}", "{shard}", "{shards}"),
        speed=RESULTS.generation("{generator}", "shards/{shard}-of-{shards}.speed.json"),
    log:
        RESULTS.log("generation/{generator}/shards/{shard}-of-{shards}"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/shards/{shard}-of-{shards}")
    wildcard_constraints:
        generator=one_of(set(EXPERIMENT.llms) - set(GENERATION.vllms)),
    conda:
        "../../envs/mentionforge.yaml"
    threads: cores
    resources:
        **NEEDS,
    params:
        program="mentionforge",
        weights=flags(model="--model", adapter="--adapter"),
    message:
        "write notes of {wildcards.generator}, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "{params.program} generation sample --spec {input.spec:q} --prompts {input.prompts:q} {params.weights}"
        " --shard {wildcards.shard} --shards {wildcards.shards} --out {output.notes:q} 2>&1 | tee {log:q}"


use rule sample as sample_vllm with:
    wildcard_constraints:
        generator=one_of(GENERATION.vllms),
    conda:
        "../../envs/vllm.yaml"
    params:
        program=from_checkout(CHECKOUT),
        weights=flags(model="--model", adapter="--adapter"),


rule notes:
    """Gather the notes of all shards in one table; every prompt has its note."""
    input:
        prompts=RESULTS.generation("{generator}", "prompts.parquet"),
        shards=GENERATION.shards,
    output:
        notes=RESULTS.generation("{generator}", "notes.parquet"),
        throughput=RESULTS.generation("{generator}", "throughput.csv"),
    log:
        RESULTS.log("generation/{generator}/notes"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/notes")
    wildcard_constraints:
        generator=one_of(EXPERIMENT.llms),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    message:
        "gather the notes of {wildcards.generator}"
    shell:
        "mentionforge generation gather --prompts {input.prompts:q} --out {output.notes:q} {input.shards:q} 2>&1 | tee {log:q}"


rule control:
    """Write the notes of a control, without a language model: fixed sentences, bare names, sentences with another name, or notes written elsewhere."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=RESULTS.generation("{generator}", "prompts.parquet"),
        replay=GENERATION.replayed,
        corpus=GENERATION.read_corpus,
        versions=GENERATION.raised_of_control,
    output:
        RESULTS.generation("{generator}", "notes.parquet"),
    log:
        RESULTS.log("generation/{generator}/control"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/control")
    wildcard_constraints:
        generator=one_of(EXPERIMENT.controls),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        replay=joined(flags(replay="--replay"), folder_flags(corpus="--corpus")),
    message:
        "notes of {wildcards.generator}, without a language model"
    shell:
        "mentionforge generation control --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} {params.replay} --out {output:q} 2>&1 | tee {log:q}"


rule locate:
    """Locate the mentions in the notes by the model's tags, then by exact, synonym and fuzzy matches; count the notes dropped."""
    input:
        spec=spec_of("generators", "{generator}/locate"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=RESULTS.generation("{generator}", "prompts.parquet"),
        notes=RESULTS.generation("{generator}", "notes.parquet"),
        encoder=GENERATION.encoder_of("locate"),
    output:
        located=RESULTS.generation("{generator}", "found/located.parquet"),
        mentions=RESULTS.generation("{generator}", "found/mentions.parquet"),
        rejected=RESULTS.generation("{generator}", "found/rejected.parquet"),
        funnel=RESULTS.generation("{generator}", "found/funnel.json"),
    log:
        RESULTS.log("generation/{generator}/locate"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/locate")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        out=subpath(output.located, parent=True),
        encoder=flags(encoder="--encoder"),
    message:
        "locate the mentions of {wildcards.generator}"
    shell:
        "mentionforge generation locate --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} --notes {input.notes:q}"
        " {params.encoder} --out {params.out:q} 2>&1 | tee {log:q}"


rule filter:
    """Apply the chain of quality filters; write notes kept, notes rejected with the reason, the funnel, and the diversity of the mentions."""
    input:
        spec=spec_of("generators", "{generator}/filter"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=RESULTS.generation("{generator}", "prompts.parquet"),
        notes=RESULTS.generation("{generator}", "notes.parquet"),
        found=[RESULTS.generation("{generator}", f"found/{file}") for file in ("located.parquet", "mentions.parquet", "rejected.parquet", "funnel.json")],
        corpora=GENERATION.leakage_corpora,
        pairs=GENERATION.pairs,
        encoder=GENERATION.encoder_of("filter"),
        versions=GENERATION.raised_of_chain,
    output:
        located=RESULTS.generation("{generator}", "located.parquet"),
        mentions=RESULTS.generation("{generator}", "mentions.parquet"),
        rejected=RESULTS.generation("{generator}", "rejected.parquet"),
        funnel=RESULTS.generation("{generator}", "funnel.json"),
        picture=RESULTS.generation("{generator}", "funnel.svg"),
        filters=RESULTS.generation("{generator}", "filters.csv"),
        diversity=RESULTS.generation("{generator}", "diversity.csv"),
        examples=RESULTS.generation("{generator}", "examples.jsonl"),
    log:
        RESULTS.log("generation/{generator}/filter"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/filter")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        found=parent_of("found"),
        out=subpath(output.located, parent=True),
        corpora=each_folder("corpora", "--corpus"),
        more=flags(pairs="--pairs", encoder="--encoder"),
        licensed=GENERATION.licensed_flag,
    message:
        "filter the notes of {wildcards.generator}"
    shell:
        "mentionforge generation filter --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} --notes {input.notes:q}"
        " --found {params.found:q} {params.corpora} {params.more} {params.licensed} --out {params.out:q} 2>&1 | tee {log:q}"
