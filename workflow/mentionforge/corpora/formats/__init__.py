"""Formats of annotated text, one file each: how it is read and, where it can be, written. `registry` names them."""
