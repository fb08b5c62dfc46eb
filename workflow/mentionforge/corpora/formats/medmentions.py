"""MedMentions: PubTator files, read by `pubtator`, whose ids without a prefix are CUIs.

In: such a file. Out: documents. Knows nothing of splits and knowledge bases.
"""

from __future__ import annotations

from mentionforge.corpora.formats import pubtator
from mentionforge.corpora.formats.contract import Format

FORMAT = Format("medmentions", pubtator.stream, id_prefix="CUI")
