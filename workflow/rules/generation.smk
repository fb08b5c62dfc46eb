"""Generation: concepts become prompts, a QLoRA adapter, notes and located mentions; and the controls without a language model.

REQUIRED INPUTS
    {results}/kb/{kb}/{concepts,names}.parquet
    {results}/corpora/{corpus}/{documents,mentions}.parquet of the fine-tuning corpus (its training split only)
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/generation/{generator}/{prompts,pairs,notes,located,mentions,rejected}.parquet, adapter/, shards/, found/, training.csv and .svg,
    throughput.csv, funnel.json and .svg, filters.csv, diversity.csv, examples.jsonl
"""

G = f"{R}/generation/{{generator}}"


rule prompts:
    """One prompt per note to write, with or without a definition."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names", "xrefs"),
        mentions=concepts_corpus,
        cuis=concepts_list,
        replay=replayed,
        versions=raised_of_replay,
    output:
        f"{G}/prompts.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/prompts.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/prompts.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        extra=flags(mentions="--mentions", replay="--replay"),
    message:
        "prompts of {wildcards.generator}"
    shell:
        "mentionforge generation prompts --spec {input.spec:q} --kb {params.kb:q} {params.extra} --out {output:q} 2>&1 | tee {log:q}"


rule pairs:
    """Fine-tuning pairs: prompt and tagged sentences, from the training split alone."""
    input:
        spec=spec_of("generators", "{generator}/finetune"),
        kb=kb_tables("generators", "concepts", "names"),
        corpus=finetune_corpus,
    output:
        f"{G}/pairs.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/pairs.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/pairs.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        corpus=parent_of("corpus"),
    message:
        "fine-tuning pairs of {wildcards.generator}"
    shell:
        "mentionforge generation pairs --spec {input.spec:q} --kb {params.kb:q} --corpus {params.corpus:q} --out {output:q} 2>&1 | tee {log:q}"


rule finetune:
    """QLoRA: a low-rank adapter on the 4-bit model, trained on the pairs."""
    input:
        spec=spec_of("generators", "{generator}/finetune"),
        model=model_of("generators"),
        pairs=f"{G}/pairs.parquet",
        versions=raised("generation.finetune"),
    output:
        adapter=directory(f"{G}/adapter"),
        training=f"{G}/training.csv",
        curve=f"{G}/training.svg",
    log:
        f"{R}/logs/generation/{{generator}}/finetune.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/finetune.tsv"
    cache: CACHING
    conda:
        "../../envs/mentionforge.yaml"
    threads: cores
    resources:
        **NEEDS,
    message:
        "fine-tune {wildcards.generator} (QLoRA)"
    shell:
        "mentionforge generation finetune --spec {input.spec:q} --model {input.model:q} --pairs {input.pairs:q}"
        " --adapter {output.adapter:q} --training {output.training:q} 2>&1 | tee {log:q}"


rule sample:
    """Write the notes of one shard of the prompts; a shard that was killed goes on where it stopped. Backend openai asks a server."""
    input:
        spec=spec_of("generators", "{generator}/sampling"),
        model=weights_of,
        prompts=f"{G}/prompts.parquet",
        adapter=adapter_of,
        versions=raised_of_backend,
    output:
        notes=f"{G}/shards/{{shard}}-of-{{shards}}.parquet",
        speed=f"{G}/shards/{{shard}}-of-{{shards}}.speed.json",
    log:
        f"{R}/logs/generation/{{generator}}/shards/{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/shards/{{shard}}-of-{{shards}}.tsv"
    wildcard_constraints:
        generator=one_of(set(LLMS) - set(VLLMS)),
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
        generator=one_of(VLLMS),
    conda:
        "../../envs/vllm.yaml"
    params:
        program=from_checkout,
        weights=flags(model="--model", adapter="--adapter"),


rule notes:
    """All shards' notes in one table; every prompt has its note."""
    input:
        prompts=f"{G}/prompts.parquet",
        shards=shards_of,
    output:
        notes=f"{G}/notes.parquet",
        throughput=f"{G}/throughput.csv",
    log:
        f"{R}/logs/generation/{{generator}}/notes.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/notes.tsv"
    wildcard_constraints:
        generator=one_of(LLMS),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    message:
        "gather the notes of {wildcards.generator}"
    shell:
        "mentionforge generation gather --prompts {input.prompts:q} --out {output.notes:q} {input.shards:q} 2>&1 | tee {log:q}"


rule control:
    """Notes without a language model at hand: fixed sentences, bare names, or notes written elsewhere."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=f"{G}/prompts.parquet",
        replay=replayed,
        versions=raised_of_control,
    output:
        f"{G}/notes.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/control.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/control.tsv"
    wildcard_constraints:
        generator=one_of(CONTROLS),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        replay=flags(replay="--replay"),
    message:
        "notes of {wildcards.generator}, without a language model"
    shell:
        "mentionforge generation control --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} {params.replay} --out {output:q} 2>&1 | tee {log:q}"


rule locate:
    """Find the mentions in the notes: the model's tags, then exact, synonym and fuzzy matches; count what is dropped."""
    input:
        spec=spec_of("generators", "{generator}/locate"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=f"{G}/prompts.parquet",
        notes=f"{G}/notes.parquet",
        encoder=encoder_of("locate"),
    output:
        located=f"{G}/found/located.parquet",
        mentions=f"{G}/found/mentions.parquet",
        rejected=f"{G}/found/rejected.parquet",
        funnel=f"{G}/found/funnel.json",
    log:
        f"{R}/logs/generation/{{generator}}/locate.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/locate.tsv"
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
    """The chain of quality filters: what it keeps, what it drops and why, the funnel, and how varied the mentions are."""
    input:
        spec=spec_of("generators", "{generator}/filter"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=f"{G}/prompts.parquet",
        notes=f"{G}/notes.parquet",
        found=[f"{G}/found/{file}" for file in ("located.parquet", "mentions.parquet", "rejected.parquet", "funnel.json")],
        corpora=leakage_corpora,
        pairs=pairs_of,
        encoder=encoder_of("filter"),
        versions=raised_of_chain,
    output:
        located=f"{G}/located.parquet",
        mentions=f"{G}/mentions.parquet",
        rejected=f"{G}/rejected.parquet",
        funnel=f"{G}/funnel.json",
        picture=f"{G}/funnel.svg",
        filters=f"{G}/filters.csv",
        diversity=f"{G}/diversity.csv",
        examples=f"{G}/examples.jsonl",
    log:
        f"{R}/logs/generation/{{generator}}/filter.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/filter.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        found=parent_of("found"),
        out=subpath(output.located, parent=True),
        corpora=leakage_flags,
        more=flags(pairs="--pairs", encoder="--encoder"),
        licensed=licensed_flag,
    message:
        "filter the notes of {wildcards.generator}"
    shell:
        "mentionforge generation filter --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} --notes {input.notes:q}"
        " --found {params.found:q} {params.corpora} {params.more} {params.licensed} --out {params.out:q} 2>&1 | tee {log:q}"
