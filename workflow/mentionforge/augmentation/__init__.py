"""Augmentation: which synthetic notes join a corpus' training split."""
