"""Evaluation: scores predictions, overall and per out-of-distribution bucket, and compares systems.

In: gold mentions and predictions of cells. Out: tables of metrics, errors and comparisons. Knows nothing of how predictions were made.
"""
