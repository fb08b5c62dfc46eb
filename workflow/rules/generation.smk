"""Generation: concepts become prompts, a QLoRA adapter, notes and located mentions; and the controls without a language model.

REQUIRED INPUTS
    {results}/kb/{kb}/{concepts,names}.parquet
    {results}/corpora/{corpus}/{documents,mentions}.parquet of the fine-tuning corpus (its training split only)
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/generation/{generator}/{prompts,pairs,notes,located,mentions,rejected}.parquet, adapter/, shards/, training.csv, funnel.json
"""

G = f"{R}/generation/{{generator}}"


rule prompts:
    """One prompt per note to write, with or without a definition."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names", "xrefs"),
        mentions=concepts_corpus,
        cuis=concepts_list,
    output:
        f"{G}/prompts.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/prompts.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/prompts.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        kb=parent_of("kb"),
        mentions=flags(mentions="--mentions"),
    message:
        "prompts of {wildcards.generator}"
    shell:
        "mentionforge generation prompts --spec {input.spec:q} --kb {params.kb:q} {params.mentions} --out {output:q} 2>&1 | tee {log:q}"


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
    output:
        adapter=directory(f"{G}/adapter"),
        training=f"{G}/training.csv",
    log:
        f"{R}/logs/generation/{{generator}}/finetune.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/finetune.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    message:
        "fine-tune {wildcards.generator} (QLoRA)"
    shell:
        "mentionforge generation finetune --spec {input.spec:q} --model {input.model:q} --pairs {input.pairs:q}"
        " --adapter {output.adapter:q} --training {output.training:q} 2>&1 | tee {log:q}"


rule sample:
    """Write the notes of one shard of the prompts; a shard that was killed goes on where it stopped."""
    input:
        spec=spec_of("generators", "{generator}/sampling"),
        model=model_of("generators"),
        prompts=f"{G}/prompts.parquet",
        adapter=adapter_of,
    output:
        f"{G}/shards/{{shard}}-of-{{shards}}.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/shards/{{shard}}-of-{{shards}}.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/shards/{{shard}}-of-{{shards}}.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    params:
        adapter=flags(adapter="--adapter"),
    message:
        "write notes of {wildcards.generator}, shard {wildcards.shard} of {wildcards.shards}"
    shell:
        "mentionforge generation sample --spec {input.spec:q} --model {input.model:q} --prompts {input.prompts:q} {params.adapter}"
        " --shard {wildcards.shard} --shards {wildcards.shards} --out {output:q} 2>&1 | tee {log:q}"


rule notes:
    """All shards' notes in one table; every prompt has its note."""
    input:
        prompts=f"{G}/prompts.parquet",
        shards=shards_of,
    output:
        f"{G}/notes.parquet",
    log:
        f"{R}/logs/generation/{{generator}}/notes.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/notes.tsv"
    wildcard_constraints:
        generator=one_of(LLMS),
    conda:
        "../../envs/mentionforge.yaml"
    message:
        "gather the notes of {wildcards.generator}"
    shell:
        "mentionforge generation gather --prompts {input.prompts:q} --out {output:q} {input.shards:q} 2>&1 | tee {log:q}"


rule control:
    """Notes of a control without a language model: fixed sentences, or bare names."""
    input:
        spec=spec_of("generators", "{generator}/prompts"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=f"{G}/prompts.parquet",
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
    params:
        kb=parent_of("kb"),
    message:
        "notes of the control {wildcards.generator}"
    shell:
        "mentionforge generation control --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} --out {output:q} 2>&1 | tee {log:q}"


rule locate:
    """Find the mentions in the notes: the model's tags, then exact, synonym and fuzzy matches; count what is dropped."""
    input:
        spec=spec_of("generators", "{generator}/locate"),
        kb=kb_tables("generators", "concepts", "names"),
        prompts=f"{G}/prompts.parquet",
        notes=f"{G}/notes.parquet",
    output:
        located=f"{G}/located.parquet",
        mentions=f"{G}/mentions.parquet",
        rejected=f"{G}/rejected.parquet",
        funnel=f"{G}/funnel.json",
    log:
        f"{R}/logs/generation/{{generator}}/locate.log",
    benchmark:
        f"{R}/benchmarks/generation/{{generator}}/locate.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        kb=parent_of("kb"),
        out=subpath(output.located, parent=True),
    message:
        "locate the mentions of {wildcards.generator}"
    shell:
        "mentionforge generation locate --spec {input.spec:q} --kb {params.kb:q} --prompts {input.prompts:q} --notes {input.notes:q} --out {params.out:q} 2>&1 | tee {log:q}"
