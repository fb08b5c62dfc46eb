"""Normalization (DEN): links mentions to concepts by retrieval."""
