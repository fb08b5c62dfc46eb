"""Linkers, one module or small package each: settings, code and version together. `Linker` names all kinds, in the order of docs and schema.

In: an entry of `linkers`. Out: its kind. Knows nothing of rules. A new kind: its module (see `contract`), its import, and one member of `Linker`.
"""

from typing import Annotated

from pydantic import Field

from mentionforge.normalization.linkers.encoder import EncoderLinker
from mentionforge.normalization.linkers.exact import ExactLinker
from mentionforge.normalization.linkers.external import ExternalLinker
from mentionforge.normalization.linkers.hybrid import HybridLinker
from mentionforge.normalization.linkers.rerank import RerankLinker
from mentionforge.normalization.linkers.self_aligned import Alignment as Alignment
from mentionforge.normalization.linkers.self_aligned import SelfAlignedLinker
from mentionforge.normalization.linkers.tfidf import TfidfLinker

Linker = Annotated[
    EncoderLinker | TfidfLinker | ExactLinker | SelfAlignedLinker | HybridLinker | RerankLinker | ExternalLinker,
    Field(discriminator="kind"),
]
"""Settings of every linker."""
