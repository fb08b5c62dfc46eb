"""What a run will do, what it will cost, how far it is, and which files it leaves behind: `mentionforge status`, `cost` and `clean`.

In: the configuration, Snakemake's plan, and a results folder. Out: text and data. Knows nothing of scores.
"""
