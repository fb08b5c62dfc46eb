"""Corpora: documents and mentions with exact offsets, CUI sets and out-of-distribution buckets, built from annotated text.

In: published corpora, and a knowledge base's cross-references. Out: documents.parquet, mentions.parquet, stats.json. Knows nothing of models.
"""
