"""Inputs of the rules of recognition.

In: the configuration, and wildcards. Out: paths. Knows nothing of how a recognizer is trained.
"""

from __future__ import annotations

from mentionforge.dag.shared import Paths, StageInputs, Wildcards
from mentionforge.entries import NONE, REAL_ONLY
from mentionforge.layout import RecognitionCell
from mentionforge.recognition.schedules import BY_NAME


class RecognitionInputs(StageInputs):
    """Inputs of training recognizers and of dictionaries."""

    def teacher(self, wildcards: Wildcards) -> Paths:
        """The model trained on real text only, with the same corpus, recognizer and seed; for schedules with a teacher."""
        w = wildcards
        if not BY_NAME[w.schedule].has_teacher:
            return []
        return self.results.recognition(RecognitionCell(w.corpus, NONE, NONE, w.recognizer, REAL_ONLY, int(w.seed)), "model")

    def dictionary_names(self, wildcards: Wildcards) -> Paths:
        """Names of the corpus' knowledge base, for a dictionary that reads them."""
        kb = self.config.corpora[wildcards.corpus].kb
        sources = getattr(self.config.recognizers[wildcards.recognizer], "sources", ())
        return self.results.kb(kb, "names.parquet") if "kb" in sources else []
