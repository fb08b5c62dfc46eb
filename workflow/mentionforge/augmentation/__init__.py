"""Augmentation: selects the synthetic notes that join a corpus' training split."""
