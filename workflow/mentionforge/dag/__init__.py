"""What the rules ask: which files a job reads and which flags its command gets, by the configuration.

One module per rules file; a rule calls a method of its stage's object. In: Snakemake's wildcards and inputs. Out: paths and flags as text.
Knows nothing about Snakemake but that wildcards have attributes; opens no file of results.
"""
