"""The reference page of the commands.

In: the command line with the commands of all stages, and the names of the stages. Out: Markdown. Knows nothing of what a command does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from mentionforge.reference.markdown import WRITTEN, cell, code, table


def page(app: typer.Typer, stages: Sequence[str]) -> str:
    """A section per group of commands; those of stages, which rules call, come last.

    Args:
        app: The command line.
        stages: Groups of commands that rules call, in the order of the stages.
    """
    group: Any = typer.main.get_command(app)
    context = group.make_context("mentionforge", ["--help"], resilient_parsing=True)
    lines = [
        "# Commands",
        "",
        WRITTEN,
        "",
        "`mentionforge COMMAND --help` says the same. Each rule of the workflow calls one of the commands of a stage, so a line of a log can be",
        "pasted and run again by hand. Exit codes: 0 done, 2 a mistake in what was given (one line says which), 1 anything else.",
        "",
    ]
    named = sorted(group.list_commands(context), key=lambda name: (name in stages, stages.index(name) if name in stages else 0, name))
    for name in named:
        command = group.get_command(context, name)
        lines += [f"## {name}", ""]
        if hasattr(command, "list_commands"):
            lines += [cell(command.help or ""), ""]
            for inner in command.list_commands(context):
                lines += [f"### {name} {inner}", "", *_command(command.get_command(context, inner))]
        else:
            lines += _command(command)
    return "\n".join(lines)


def _command(command: Any) -> Iterator[str]:
    """What a command does, and a table of its arguments and options."""
    yield cell(command.help or "")
    yield ""
    rows = [
        (code(_name(parameter)), cell(parameter.help or ""), "required" if parameter.required else code(_default(parameter)))
        for parameter in command.params
        if parameter.name != "help"
    ]
    if rows:
        yield from table(("argument", "meaning", "default"), rows)


def _name(parameter: Any) -> str:
    """`--out`, or `FILES` for an argument by position."""
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return " / ".join([*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    """The default as it would be typed; empty if there is none."""
    value = parameter.default
    if value is None or callable(value) or value in ([], (), "") or isinstance(value, bool):
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
