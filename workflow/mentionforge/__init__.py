"""mentionforge: synthetic, normalized disease mentions, and what they buy for recognition and normalization.

In: a configuration, a knowledge base, corpora. Out: a results folder. One subpackage per stage: it knows nothing of the other stages, and exchanges with
them the Parquet tables that `mentionforge.tables` declares. `export` and `annotate` use several stages.
"""

__version__ = "0.2.0"
