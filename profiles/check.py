"""What every profile here runs before Snakemake reads files of --configfile: of a broken one Snakemake says neither its name nor the row."""

import sys
from pathlib import Path

WORKFLOW = str(Path(__file__).resolve().parents[1] / "workflow")
before = set(sys.modules)
sys.path.insert(0, WORKFLOW)
try:
    from mentionforge.config_files import check_command_line

    check_command_line()
finally:
    # The workflow imports the package of its own checkout, which may be another one.
    sys.path.remove(WORKFLOW)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "mentionforge":
            del sys.modules[name]
