"""mentionforge: synthetic, normalized disease mentions, and what they buy for recognition and normalization.

One subpackage per stage. Stages do not import each other; they exchange the Parquet tables declared in `mentionforge.tables`.
`export` and `annotate` use several stages.
"""

__version__ = "0.1.0"
