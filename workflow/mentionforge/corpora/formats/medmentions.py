"""MedMentions: PubTator files whose ids without a prefix are CUIs; read as `pubtator` reads them."""

from __future__ import annotations

from mentionforge.corpora.formats import pubtator
from mentionforge.corpora.formats.contract import Format

FORMAT = Format("medmentions", pubtator.stream, id_prefix="CUI")
