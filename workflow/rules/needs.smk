"""Resources of jobs: `resources: **NEEDS`, by the figures in mentionforge/needs.py; a profile or the command line may replace them.

mem_mb, disk_mb, runtime: for every job, by the size of its inputs and weights, and the attempt.
gpu: number of GPUs. Only jobs with a GPU have gpu_model (MENTIONFORGE_GPU), nodes, and gpu_manufacturer and scale for Kubernetes.
lanes: one for each submitted job; their total limits how many jobs of a group run side by side.
"""

from mentionforge import needs


resource_scopes:
    lanes="local",


if workflow.resource_settings.nodes is not None and "lanes" not in workflow.global_resources:
    # Jobs are submitted. At most four jobs of a group run side by side; a limit on the memory of groups would also limit all other jobs.
    workflow.register_resource("lanes", 4)


def own_name(rulename):
    """The name of a rule here; a workflow that takes this one as a module may give it another one (`use rule * from … as …`)."""
    before, after = workflow_names
    return rulename.removeprefix(before).removesuffix(after)


workflow_names = workflow.modifier.modify_rulename("~").split("~")


def weights_of_job(rulename, input):
    """Sizes of the weights that a job loads; assumed sizes for weights that do not exist yet."""
    weights = needs.Weights()
    for role in needs.WEIGHTS:
        for path in map(Path, as_list(input.get(role, []))):
            fetched = path.name == "fetched.json" and CONFIG.models.get(path.parent.name)
            weights += needs.weights_at(str(path)) or needs.assumed_weights(own_name(rulename), role, fetched.model_dump() if fetched else {})
    return weights


def job_load(wildcards, input, rulename):
    """The load of a job. Raises FileNotFoundError if an input does not exist yet; Snakemake then shows <TBD>."""
    weights = {str(path) for role in needs.WEIGHTS for path in as_list(input.get(role, []))}
    read = [path for path in input if str(path) not in weights]
    stored = any(getattr(path, "is_storage", False) for path in read)  # in a bucket, where only Snakemake can look
    size = input.size / 1e6 if stored else needs.size_mb(map(str, read))
    return needs.load_of(own_name(rulename), size, weights_of_job(rulename, input), CONFIG.generators.get(wildcards.get("generator")))


def memory(wildcards, input, attempt, rulename):
    """Memory in MB."""
    return needs.memory_mb(own_name(rulename), job_load(wildcards, input, rulename), attempt)


def scratch(wildcards, input, attempt, rulename):
    """Local disk in MB."""
    return needs.disk_mb(own_name(rulename), job_load(wildcards, input, rulename), attempt)


def indexes_of(rulename):
    """Number of indexes that a job of the rule links."""
    batches = END_TO_END.batches if own_name(rulename).startswith("link_predicted") else LINKING.batches
    return next((len(batch.indexes) for batch in batches if batch.suffix and own_name(rulename).endswith(batch.suffix)), 1)


def longest(wildcards, input, attempt, rulename):
    """Time in minutes; that of one index for each index that is linked."""
    return indexes_of(rulename) * needs.minutes(own_name(rulename), job_load(wildcards, input, rulename), attempt)


def own_gpus(wildcards, input, rulename):
    """GPUs by the settings; 0 if the user requests them through Slurm's gres, or if the run is limited to gpu=0."""
    resources = workflow.get_rule(rulename).resources
    if "gpu" in str(resources.get("gres").raw) or workflow.global_resources.get("gpu").value == 0:
        return 0
    settings = CONFIG.generators.get(wildcards.get("generator"))
    load = needs.load_of(own_name(rulename), 0, weights_of_job(rulename, input), settings)
    return needs.gpus(own_name(rulename), load, os.environ.get("MENTIONFORGE_GPU"))


def on_kubernetes():
    """Whether jobs are sent to Kubernetes."""
    return workflow.executor_plugin is not None and workflow.executor_plugin.name == "kubernetes"


def gpus(wildcards, input, rulename):
    """Number of GPUs. Without any, None on Kubernetes, which must not get the resource, and 0 elsewhere, since submit commands may use the number."""
    count = own_gpus(wildcards, input, rulename)
    return None if not count and on_kubernetes() else count


def with_gpu(value):
    """Resource function: a value computed from the number of GPUs, if the job has GPUs or a profile sets their number, even to 0."""

    def resource(wildcards, input, rulename):
        profile_value = workflow.get_rule(rulename).resources["gpu"]
        if not profile_value.is_evaluable():
            return value(profile_value.value)
        count = own_gpus(wildcards, input, rulename)
        return value(count) if count else None

    return resource


def cores(wildcards, rulename):
    """Cores of a job: two per device."""
    return 2 * needs.devices(own_name(rulename), CONFIG.generators.get(wildcards.get("generator")))


def lane(wildcards):
    """One lane per job, if jobs are submitted."""
    return 1 if "lanes" in workflow.global_resources else None


NEEDS = {
    "mem_mb": memory,
    "disk_mb": scratch,
    "runtime": longest,
    "gpu": gpus,
    "gpu_model": with_gpu(lambda count: (os.environ.get("MENTIONFORGE_GPU") or None) if count else None),
    "gpu_manufacturer": with_gpu(lambda count: "nvidia" if on_kubernetes() else None),
    # scale=0 makes Snakemake's executor set limits besides requests; without limits Kubernetes gives no GPU.
    "scale": with_gpu(lambda count: 0 if on_kubernetes() else None),
    "nodes": with_gpu(lambda count: 1 if count > 1 else None),
    "lanes": lane,
}
