"""mentionforge: synthetic, normalized disease mentions, and what they buy for recognition and normalization.

One subpackage per stage; stages do not import each other, they meet in the Parquet tables of `mentionforge.tables`.
`export` stands above them.
"""

__version__ = "0.1.0"
