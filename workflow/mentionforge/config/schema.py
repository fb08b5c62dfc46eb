"""The configuration as a pydantic model: one field per section, with the settings that the stages declare.

In: a mapping without sweeps. Out: a `Config`, and the JSON schema. Knows nothing of references between entries (`checks`).
"""

from __future__ import annotations

import json

from pydantic import Field

from mentionforge.augmentation.strategies import Strategy
from mentionforge.config.experiment import Experiment
from mentionforge.corpora.settings import Corpus, LeakageGuard
from mentionforge.download_settings import Download
from mentionforge.entries import Entry
from mentionforge.evaluation.settings import Statistics
from mentionforge.generation.kinds import Generator
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.kb.settings import HIERARCHY, Hierarchy
from mentionforge.kb.sources import Kb
from mentionforge.model_settings import Model
from mentionforge.normalization.linkers import Linker
from mentionforge.normalization.settings import Index
from mentionforge.recognition.kinds import Recognizer
from mentionforge.report.settings import Report

SECTIONS = ("models", "downloads", "kbs", "corpora", "prompts", "generators", "strategies", "recognizers", "linkers", "indexes")
"""Sections of named entries."""


class Config(Entry):
    """The whole configuration of a run."""

    results: str = Field("results", min_length=1, description="Folder of all outputs.")
    resources: str = Field("resources", description="Folder of fetched weights (models/) and files (downloads/).")
    mirror: str | None = Field(None, description="Local folder to take published files from; MENTIONFORGE_MIRROR overrides it.")
    models: dict[str, Model] = Field(default_factory=dict)
    downloads: dict[str, Download] = Field(default_factory=dict)
    kbs: dict[str, Kb]
    corpora: dict[str, Corpus]
    prompts: dict[str, Prompt] = Field(default_factory=dict, description="What generators ask; docs/prompts.md lists those that come with the program.")
    generators: dict[str, Generator] = Field(default_factory=dict)
    strategies: dict[str, Strategy]
    recognizers: dict[str, Recognizer] = Field(default_factory=dict)
    linkers: dict[str, Linker] = Field(default_factory=dict)
    indexes: dict[str, Index] = Field(default_factory=dict)
    leakage: LeakageGuard = Field(LeakageGuard(), description="Guard against generated and training text in test documents.")
    experiment: Experiment
    hierarchy: Hierarchy = HIERARCHY
    statistics: Statistics = Field(Statistics())
    report: Report = Field(Report())

    def files(self, section: str, name: str) -> list[str]:
        """Input files and folders of the named kb or corpus (`section`: kbs, corpora), as the config gives them, sorted."""
        entry = getattr(self, section)[name]
        if section == "corpora":
            return sorted(entry.paths().values())
        return list(entry.files())

    def download_path(self, name: str) -> str:
        """Where the download NAME is stored."""
        return f"{self.resources}/downloads/{name}"


def json_schema() -> str:
    """The JSON schema of the config, as committed in workflow/schemas/config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"
