"""The one exception a user's mistake raises; the command line prints it as a single line and no traceback.

In: what, where, why, and what to do. Out: one line. Knows nothing of any stage.
"""

from __future__ import annotations


class UserError(Exception):
    """A mistake in the user's input, shown as `error: <what> in <file>:<row>: <why>; <what to do>`.

    Args:
        what: What is wrong, in a few words ("truncated row", "unknown corpus").
        where: File, optionally with `:row` (1-based), or the key of the config.
        why: The reason, with the offending value if it is not licensed text.
        fix: What the user can do about it.
    """

    def __init__(self, what: str, where: str = "", why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        text = f"{what} in {where}" if where else what
        text += f": {why}" if why else ""
        text += f"; {fix}" if fix else ""
        # Values from files may hold any character, as half a surrogate pair or escape codes of a terminal.
        line = " ".join(text.split())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line))
