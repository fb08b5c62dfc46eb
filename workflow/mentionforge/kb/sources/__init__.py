"""Sources of knowledge bases, one file or package each: settings, reading, hierarchy and version together.

In: an entry of `kbs`. Out: its source. Knows nothing of the tables that a source gives. `Kb` names all sources, in the order of docs and schema.
A new one: its file (see `contract`), its import, and one member of `Kb`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mentionforge.kb.sources.obo import OboKb
from mentionforge.kb.sources.ontologies import OntologyKb
from mentionforge.kb.sources.rf2 import Rf2Kb
from mentionforge.kb.sources.rrf import RrfKb
from mentionforge.kb.sources.table import TableKb

Kb = Annotated[RrfKb | OntologyKb | OboKb | Rf2Kb | TableKb, Field(discriminator="source")]
"""Settings of every source."""
