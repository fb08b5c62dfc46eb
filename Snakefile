"""mentionforge: synthetic, normalized disease mentions, and what they buy for recognition and normalization.

snakemake                                   the embedded default (config.yaml)
snakemake --configfile config/open.yaml     public corpora and ontologies
snakemake --configfile config/paper.yaml    the paper's setting: GPUs, UMLS and SemEval licences
"""


include: "workflow/Snakefile"


# Snakemake takes no default target from an included file.
workflow.default_target = "all"
