"""Fine-tuning: annotated text becomes pairs of prompt and tagged sentences, and those a QLoRA adapter.

REQUIRED INPUTS
    {results}/kb/{kb}/{concepts,names}.parquet
    {results}/corpora/{corpus}/{documents,mentions}.parquet of the fine-tuning corpus (its training split only)
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/generation/{generator}/pairs.parquet, adapter/, training.csv and .svg
"""

from mentionforge.dag.generation import GenerationInputs

FINETUNING = GenerationInputs(CONFIG)


rule pairs:
    """Write fine-tuning pairs of prompt and tagged sentences, from the training split only."""
    input:
        spec=spec_of("generators", "{generator}/finetune"),
        kb=kb_tables("generators", "concepts", "names"),
        corpus=FINETUNING.training_corpus,
        parents=FINETUNING.parents_asked,
    output:
        RESULTS.generation("{generator}", "pairs.parquet"),
    log:
        RESULTS.log("generation/{generator}/pairs"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/pairs")
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
    """Train a low-rank adapter on the 4-bit model with the pairs (QLoRA)."""
    input:
        spec=spec_of("generators", "{generator}/finetune"),
        model=model_of("generators"),
        pairs=RESULTS.generation("{generator}", "pairs.parquet"),
        versions=raised("generation.finetune"),
    output:
        adapter=directory(RESULTS.generation("{generator}", "adapter")),
        training=RESULTS.generation("{generator}", "training.csv"),
        curve=RESULTS.generation("{generator}", "training.svg"),
    log:
        RESULTS.log("generation/{generator}/finetune"),
    benchmark:
        RESULTS.benchmark("generation/{generator}/finetune")
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
