"""The whole configuration: its sections, loading and checks, sweeps, and the cells of the experiment. Each stage declares its own settings.

In: YAML files and overrides, as one mapping. Out: a validated `Config`, spec texts, cells. Knows nothing of how a stage works.
"""

from mentionforge.config.cells import all_input_linkers as all_input_linkers
from mentionforge.config.cells import cross_cells as cross_cells
from mentionforge.config.cells import end_to_end_cells as end_to_end_cells
from mentionforge.config.cells import indexes_to_link as indexes_to_link
from mentionforge.config.cells import normalization_cells as normalization_cells
from mentionforge.config.cells import recognition_cells as recognition_cells
from mentionforge.config.cells import same_names as same_names
from mentionforge.config.checks import in_use as in_use
from mentionforge.config.experiment import Experiment as Experiment
from mentionforge.config.experiment import NormalizationGrid as NormalizationGrid
from mentionforge.config.experiment import RecognitionGrid as RecognitionGrid
from mentionforge.config.file_schema import file_schema as file_schema
from mentionforge.config.load import load_config as load_config
from mentionforge.config.raw import plain as plain
from mentionforge.config.raw import resolve_input_paths as resolve_input_paths
from mentionforge.config.schema import SECTIONS as SECTIONS
from mentionforge.config.schema import Config as Config
from mentionforge.config.schema import json_schema as json_schema
from mentionforge.config.specs import spec as spec
from mentionforge.config.specs import spec_text as spec_text
from mentionforge.config.sweeps import MOST_VARIANTS as MOST_VARIANTS
from mentionforge.config.sweeps import SWEEPABLE as SWEEPABLE
from mentionforge.config.sweeps import Sweep as Sweep
from mentionforge.config.sweeps import swept_settings as swept_settings
from mentionforge.config.sweeps import unfold_sweeps as unfold_sweeps
