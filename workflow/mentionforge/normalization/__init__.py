"""Normalization (DEN): links mentions to concepts by retrieval.

In: gold or predicted mentions, names of a knowledge base, synthetic mentions. Out: rankings of concepts. Knows nothing of scores.
"""
