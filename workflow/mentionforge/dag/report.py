"""Inputs of the rules of the report.

In: the configuration. Out: paths and flags. Knows nothing of what the report shows.
"""

from __future__ import annotations

import json
import shlex

from mentionforge.dag.experiment import ExperimentFiles
from mentionforge.dag.shared import Wildcards
from mentionforge.entries import EXTERNAL
from mentionforge.provenance import digest


class ReportInputs(ExperimentFiles):
    """Inputs of the tables and of the page."""

    @property
    def config_digest(self) -> str:
        """Digest of the settings on which results depend."""
        settings = self.config.model_dump(mode="json", exclude={"results", "resources", "mirror", "report"})
        return digest(json.dumps(settings, sort_keys=True))

    @property
    def metrics(self) -> list[str]:
        """Metrics of all tasks."""
        return [*self.evaluated, *self.scored_end_to_end]

    @property
    def funnels(self) -> list[str]:
        """Funnel of each generator: counts from prompts to kept notes."""
        return [self.results.generation(g, "funnel.json") for g in self.generators]

    @property
    def corpus_stats(self) -> list[str]:
        """Counts of the corpora."""
        return [self.results.corpus(c, "stats.json") for c in self.corpora]

    @property
    def kb_stats(self) -> list[str]:
        """Counts of the knowledge bases."""
        return [self.results.kb(kb, "stats.json") for kb in self.kbs]

    @property
    def external_predictions(self) -> list[str]:
        """Predictions of external systems."""
        return [path for path in self.predictions if f"/{EXTERNAL}/" in path]

    @property
    def fetched_models(self) -> list[str]:
        """Stamps of the weights that the experiment needs."""
        return [self.resources.model(m) for m in self.models]

    def licensed_entries(self, wildcards: Wildcards) -> str:
        """Flags for the page: the licensed entries, whose texts it leaves out, and whether it is private."""
        entries = [f"kbs/{kb}" for kb in self.kbs if self.is_licensed("kbs", kb)] + [f"corpora/{c}" for c in self.corpora if self.is_licensed("corpora", c)]
        entries += [f"generators/{g}" for g in self.generators if self.licensed_text(g)]
        private = ["--private"] if self.config.report.private else []
        return shlex.join([*(word for entry in entries for word in ("--licensed", entry)), *private])
