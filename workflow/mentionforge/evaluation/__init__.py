"""Evaluation: scores predictions, overall and per out-of-distribution bucket, and compares systems."""
