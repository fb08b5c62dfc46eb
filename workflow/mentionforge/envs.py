"""The conda environments of --sdm conda, generated from the pins in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

HEADER = "# Generated from pyproject.toml by `mentionforge config envs`; do not edit.\n"


def conda_environment(pyproject: Path) -> str:
    """The text of envs/mentionforge.yaml: Python and pip from conda-forge, everything else as pinned in pyproject.toml.

    The package itself is installed from the checkout, relative to the environment file.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    pins = sorted((d for d in project["dependencies"] if not d.startswith("snakemake")), key=str.lower)
    environment = {
        "name": "mentionforge",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": ["python=3.11", "pip", {"pip": [*pins, "-e .."]}],
    }
    return HEADER + yaml.safe_dump(environment, sort_keys=False)
