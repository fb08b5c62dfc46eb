"""Which commands claim a GPU, and which rules run them: read from the code of the commands and the shell lines of the rules."""

import ast
import re
from collections.abc import Iterable

from checkout import ROOT


def commands() -> dict[tuple[str, str], ast.FunctionDef]:
    """The function of each command of each stage, as it is written."""
    found = {}
    for path in sorted((ROOT / "workflow/mentionforge").glob("*/commands.py")):
        for function in ast.parse(path.read_text()).body:
            for mark in function.decorator_list if isinstance(function, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and mark.args and isinstance(mark.args[0], ast.Constant):
                    found[path.parent.name, mark.args[0].value] = function
    return found


def claiming() -> list[tuple[str, str]]:
    """Stage and verb of each command that calls `claim`."""
    calls = {key: [n for n in ast.walk(body) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)] for key, body in commands().items()}
    return [key for key, found in calls.items() if any(call.func.id == "claim" for call in found)]


def rules_of(commands: Iterable[tuple[str, str]]) -> set[str]:
    """Rules that run one of these commands, by their shell lines."""
    found = set()
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"^(?= *(?:use )?rule\b)", path.read_text(), flags=re.M):
            if inherited := re.match(r"use rule (\w+) as (\w+) with:", rule):
                found |= {inherited.group(2)} if inherited.group(1) in found else set()
            elif said := re.search(r"^ +shell:\n +\"(?:mentionforge|\{params.program\}) (\S+) (\S+)", rule, re.M):
                name = re.match(r" *rule(?: (\w+):|:\n +name:\n +f\"(\w+))", rule)
                found |= {name.group(1) or name.group(2)} if said.groups() in set(commands) else set()
    return found
