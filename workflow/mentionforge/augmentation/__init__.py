"""Augmentation: selects the synthetic notes that join a corpus' training split.

In: located notes and gold mentions of a corpus. Out: table `chosen`. Knows nothing of texts.
"""
