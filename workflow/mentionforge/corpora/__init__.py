"""Corpora: annotated text becomes documents and mentions with exact offsets, CUI sets and out-of-distribution buckets."""
