#!/bin/sh
# Run by Snakemake in the new environment: the command of the program, which lies in the checkout that workflow/rules/common.smk names.
set -eu
printf '#!/bin/sh\nPYTHONPATH="$MENTIONFORGE_WORKFLOW" exec python -m mentionforge.cli "$@"\n' > "$CONDA_PREFIX/bin/mentionforge"
chmod +x "$CONDA_PREFIX/bin/mentionforge"
