"""Export of results in layouts that other tools read. It is above the stages: it reads their tables and uses their writers.

In: tables of a results folder. Out: folders to publish. Knows nothing of rules.
"""
