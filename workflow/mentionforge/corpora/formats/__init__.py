"""Formats of annotated text, one file each: its reader and, for most, its writer. `registry` lists them."""
