"""Shared by all rules: the validated config, constants, wildcard constraints.

Input and params functions of rules are methods of the stage's object, from the module of the same name in mentionforge/dag.
"""

import json
import os

from mentionforge import versions
from mentionforge.config import load_config, resolve_input_paths, swept_settings
from mentionforge.dag.end_to_end import EndToEndInputs
from mentionforge.dag.experiment import ExperimentFiles
from mentionforge.dag.normalization import NormalizationInputs
from mentionforge.dag.shared import as_list, each_folder, flags, folder_flags, joined, one_of, output_flags, parent_of
from mentionforge.entries import EXTERNAL, NAME_PATTERN, NONE, UNTRAINED
from mentionforge.layout import TRAINED_ON
from mentionforge.models import refuse_other_source
from mentionforge.planning.leftovers import recorded_outputs
from mentionforge.planning.opening import opening
from mentionforge.recognition.schedules import SCHEDULES
from snakemake.settings.types import DeploymentMethod

with one_line_errors():
    CONFIG = load_config(resolve_input_paths(config, Path.cwd(), CHECKOUT), root=Path.cwd(), positions=CONFIG_FILES.positions)

if CONFIG.mirror:
    # Not a parameter of the download, since the source of a file does not change its content.
    os.environ.setdefault("MENTIONFORGE_MIRROR", CONFIG.mirror)

if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    # Environments hold the libraries; the program runs from this checkout (envs/mentionforge.post-deploy.sh).
    os.environ.update(MENTIONFORGE_WORKFLOW=str(WORKFLOW))

EXPERIMENT = ExperimentFiles(CONFIG)
LINKING = NormalizationInputs(CONFIG)
END_TO_END = EndToEndInputs(CONFIG)
spec_of, raised, kb_tables, model_of = EXPERIMENT.spec, EXPERIMENT.raised, EXPERIMENT.kb_tables, EXPERIMENT.weights_of

# The resources and threads that a profile or the command line gives a rule also hold for its jobs of several indexes.
for settings in (workflow.resource_settings.overwrite_resources, workflow.resource_settings.overwrite_threads):
    for name, value in list(settings.items()):
        for single in ("link_baseline", "link_augmented", "fuse", "rerank", "link_predicted"):
            for batch in [*LINKING.batches, *END_TO_END.batches] if name == workflow.modifier.modify_rulename(single) else []:
                settings.setdefault(workflow.modifier.modify_rulename(f"{single}{batch.suffix}"), value)

if workflow.modifier.path_modifier.prefix or workflow.modifier.path_modifier.modifies_prefixes:
    raise WorkflowError("error: prefix of a module: commands name the results folder, which a prefix would not move; set `results` in its config instead")

R = CONFIG.results
RESULTS = EXPERIMENT.results
RESOURCES = CONFIG.resources
CORPUS_TABLES = EXPERIMENT.corpus_tables("{corpus}")
SYNTHETIC_TABLES = EXPERIMENT.synthetic_tables("{generator}")
# Keys keep the order of the configuration, which gives the order of settings in names of variants.
SWEEP_CONFIG = json.dumps({key: value for key, value in config.items() if key not in ("report", "downloads", "resources", "mirror")})
SWEEPS = [RESULTS.sweeps("sweeps.csv"), RESULTS.sweeps("sweeps.md")] if swept_settings(config) else []
CACHING = workflow.workflow_settings.cache is not None

if workflow.is_main_process:
    with one_line_errors():
        for name in EXPERIMENT.models:
            refuse_other_source(name, CONFIG.models[name], Path(RESOURCES) / "models" / name, lambda: recorded_outputs(Path(".snakemake/metadata")))


def image():
    """The image that jobs run in with --sdm apptainer."""
    path = os.environ.get("MENTIONFORGE_IMAGE", str(CHECKOUT / "docker" / "mentionforge.sif"))
    if " " in path:
        raise WorkflowError(f"error: blank in the path of the image: {path}: Snakemake takes none; put it elsewhere and name it in MENTIONFORGE_IMAGE")
    return path


wildcard_constraints:
    kb=one_of(CONFIG.kbs),
    corpus=one_of(CONFIG.corpora),
    generator=one_of(CONFIG.generators),
    strategy=one_of(set(CONFIG.strategies) - {NONE}),
    recognizer=one_of(CONFIG.recognizers),
    linker=one_of(CONFIG.linkers),
    encoder=one_of(LINKING.encoders),
    index=one_of(CONFIG.indexes),
    model=one_of(CONFIG.models),
    download=one_of(CONFIG.downloads),
    task="recognition|normalization",
    kind=one_of(["kbs", "corpora", "generators", "strategies", "recognizers", "linkers", "indexes", "parts", *versions.OWN_SPECS]),
    entry=rf"{NAME_PATTERN}(/[a-z]+)?",
    seed=r"\d+",
    shard=r"\d+",
    shards=r"\d+",
