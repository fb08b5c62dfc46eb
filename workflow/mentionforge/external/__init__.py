"""Predictions of other systems: read, checked against a corpus, and scored like those of the workflow itself.

In: files of another system, and a corpus. Out: tables of rankings and spans, as the workflow's own. Knows nothing of scores.
"""
