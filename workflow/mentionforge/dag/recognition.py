"""What the rules of recognition ask."""

from __future__ import annotations

from mentionforge.dag.shared import Paths, Stage, Wildcards
from mentionforge.entries import NONE
from mentionforge.layout import RecognitionCell
from mentionforge.recognition.settings import TAUGHT


class RecognitionInputs(Stage):
    """Inputs of training a recognizer, and of a dictionary."""

    def teacher(self, wildcards: Wildcards) -> Paths:
        """The real-only model of the same corpus, recognizer and seed, for schedules that read synthetic notes with it."""
        w = wildcards
        if w.schedule not in TAUGHT:
            return []
        return self.results.recognition(RecognitionCell(w.corpus, NONE, NONE, w.recognizer, "real_only", int(w.seed)), "model")

    def dictionary_names(self, wildcards: Wildcards) -> Paths:
        """Names of the corpus' knowledge base, where a dictionary reads them."""
        kb = self.config.corpora[wildcards.corpus].kb
        sources = getattr(self.config.recognizers[wildcards.recognizer], "sources", ())
        return self.results.kb(kb, "names.parquet") if "kb" in sources else []
