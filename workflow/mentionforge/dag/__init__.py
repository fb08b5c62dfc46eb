"""Input and params functions of the rules: the files that a job reads and the flags of its command, by the configuration.

In: Snakemake's wildcards and inputs. Out: paths and flags as text. One module per rules file; a rule calls a method of its stage's object.
Knows nothing of Snakemake but that wildcards have attributes; opens no file of results.
"""
