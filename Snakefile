"""mentionforge: synthetic, normalized disease mentions, and what they buy for recognition and normalization.

snakemake                                   the embedded default (config.yaml)
snakemake --configfile config/open.yaml     public corpora and ontologies
snakemake --configfile config/paper.yaml    the paper's setting: GPUs, UMLS and SemEval licences
"""

import sys

from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from mentionforge.config_files import one_line_errors, read

# That of the folder of the run, if it has one: snakemake --directory.
BASE = "config.yaml" if Path("config.yaml").is_file() else Path(workflow.basedir) / "config.yaml"
# Read before Snakemake reads them, which accepts `no:` and repeated keys silently and names no row.
with one_line_errors():
    CONFIG_FILES = read([BASE, *workflow.config_settings.configfiles], workflow.config_settings.config)


configfile: BASE


include: "workflow/rules/common.smk"
include: "workflow/rules/needs.smk"


# docker/workflow.def, or the image that MENTIONFORGE_IMAGE names. Snakemake refuses a path with a blank, so only --sdm apptainer may need it.
if DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:

    container: image()


include: "workflow/rules/resources.smk"
include: "workflow/rules/kb.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/finetuning.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/augmentation.smk"
include: "workflow/rules/recognition.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/normalization.smk"
include: "workflow/rules/linker_training.smk"
include: "workflow/rules/external.smk"
include: "workflow/rules/end_to_end.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


# Snakemake measures no job that it may take from the cache between workflows (--cache), and refuses rules that ask for both.
for cached in (rule for rule in workflow.rules if rule.cache.output):
    cached._benchmark = None


rule all:
    """Everything the experiment asks for, so that any deleted output is rebuilt, and what depends on it."""
    default_target: True
    input:
        rules.summary.output,
        rules.tidy.output,
        rules.page.output,
        EXPERIMENT.evaluated,
        EXPERIMENT.scored_end_to_end,
        EXPERIMENT.compared("comparisons", "changes"),
        EXPERIMENT.predictions,
        EXPERIMENT.chosen,
        EXPERIMENT.generation,
        EXPERIMENT.tables,
        EXPERIMENT.cards,
        SWEEPS,
    message:
        "everything is there"


onstart:
    # Jobs that are submitted to other machines have cores there.
    here = workflow.resource_settings.nodes is None
    for line in opening(
        ((job.rule.name, job.wildcards_dict) for job in workflow.dag.needrun_jobs()), CONFIG, workflow.resource_settings.cores if here else None
    ):
        logger.info(line)


onsuccess:
    shell("mentionforge report headline {R:q} || true")


onerror:
    # If a cell fails, the summary of the sweep scores the others and names the failed one.
    if SWEEPS:
        shell("mentionforge report sweeps {R:q} --config {SWEEP_CONFIG:q} --out {R:q}/sweeps || true")
