"""Normalization: mentions to concepts, by retrieval (DEN)."""
