"""Resources of jobs: `resources: **NEEDS`, by the figures in mentionforge/needs.py; a profile or the command line replaces any of them.

mem_mb, disk_mb, runtime: of every job, by what it reads, the weights it loads, and the attempt.
gpu: how many; gpu_model (MENTIONFORGE_GPU), nodes, and what Kubernetes wants (gpu_manufacturer, scale) only beside it.
lanes: one for each job that is submitted; so many jobs of a group run side by side.
"""

from mentionforge import needs


resource_scopes:
    lanes="local",


if workflow.resource_settings.nodes is not None and "lanes" not in workflow.global_resources:
    # Jobs are submitted. A group is as wide as this; a limit of its memory would be one of every other job too.
    workflow.register_resource("lanes", 4)


def weights_of_job(rulename, input):
    """Sizes of the weights that a job loads; of those that are not there yet, assumed ones."""
    found = needs.Weights()
    for role in needs.WEIGHTS:
        for path in map(Path, as_list(input.get(role, []))):
            fetched = path.name == "fetched.json" and CONFIG.models.get(path.parent.name)
            found += needs.weights_at(str(path)) or needs.assumed_weights(rulename, role, fetched.model_dump() if fetched else {})
    return found


def work(wildcards, input, rulename):
    """What a job has to do. Raises FileNotFoundError where an input is not there yet, which Snakemake shows as <TBD>."""
    weights = {str(path) for role in needs.WEIGHTS for path in as_list(input.get(role, []))}
    read = [path for path in input if str(path) not in weights]
    stored = any(getattr(path, "is_storage", False) for path in read)  # in a bucket, where only Snakemake can look
    size = input.size / 1e6 if stored else needs.size_mb(map(str, read))
    return needs.work_of(rulename, size, weights_of_job(rulename, input), CONFIG.generators.get(wildcards.get("generator")))


def memory(wildcards, input, attempt, rulename):
    """Memory in MB."""
    return needs.memory_mb(rulename, work(wildcards, input, rulename), attempt)


def scratch(wildcards, input, attempt, rulename):
    """Local disk in MB."""
    return needs.disk_mb(rulename, work(wildcards, input, rulename), attempt)


def longest(wildcards, input, attempt, rulename):
    """Time in minutes."""
    return needs.minutes(rulename, work(wildcards, input, rulename), attempt)


def own_gpus(wildcards, input, rulename):
    """GPUs by the settings; none where the user asks for them in Slurm's own way (gres), or the whole run may have none."""
    resources = workflow.get_rule(rulename).resources
    if "gpu" in str(resources.get("gres").raw) or workflow.global_resources.get("gpu").value == 0:
        return 0
    settings = CONFIG.generators.get(wildcards.get("generator"))
    asked = needs.work_of(rulename, 0, weights_of_job(rulename, input), settings)
    return needs.gpus(rulename, asked, os.environ.get("MENTIONFORGE_GPU"))


def on_kubernetes():
    """Whether jobs are sent to Kubernetes."""
    return workflow.executor_plugin is not None and workflow.executor_plugin.name == "kubernetes"


def gpus(wildcards, input, rulename):
    """How many GPUs. Kubernetes wants no word of them where there are none; a submit command may want the number 0."""
    count = own_gpus(wildcards, input, rulename)
    return None if not count and on_kubernetes() else count


def with_gpu(value):
    """Resource function: a value beside the number of GPUs, where a job asks for some or a profile says how many, be it 0."""

    def resource(wildcards, input, rulename):
        given = workflow.get_rule(rulename).resources["gpu"]
        if not given.is_evaluable():
            return value(given.value)
        count = own_gpus(wildcards, input, rulename)
        return value(count) if count else None

    return resource


def cores(wildcards, rulename):
    """Cores of a job: two for each process on a device of its own."""
    return 2 * needs.devices(rulename, CONFIG.generators.get(wildcards.get("generator")))


def lane(wildcards):
    """A place in a group, where jobs are submitted."""
    return 1 if "lanes" in workflow.global_resources else None


NEEDS = {
    "mem_mb": memory,
    "disk_mb": scratch,
    "runtime": longest,
    "gpu": gpus,
    "gpu_model": with_gpu(lambda count: (os.environ.get("MENTIONFORGE_GPU") or None) if count else None),
    "gpu_manufacturer": with_gpu(lambda count: "nvidia" if on_kubernetes() else None),
    # Its executor then sets limits besides requests, without which Kubernetes refuses to give a GPU.
    "scale": with_gpu(lambda count: 0 if on_kubernetes() else None),
    "nodes": with_gpu(lambda count: 1 if count > 1 else None),
    "lanes": lane,
}
