"""Formats of annotated text, one file each: its reader and, for most, its writer. `registry` lists them.

In: files of annotated text. Out: `Document`s, and the reverse. Knows nothing of splits and knowledge bases.
"""
