"""Corpora: documents and mentions with exact offsets, CUI sets and out-of-distribution buckets, built from annotated text."""
