"""Settings of the report page.

In: the section `report` of the configuration. Out: its model. Knows nothing of the results folder.
"""

from __future__ import annotations

from pydantic import Field

from mentionforge.entries import Entry


class Report(Entry):
    """The report page."""

    private: bool = Field(
        False, description="The page stays with people who may read the licensed inputs: it then holds their texts (definitions, notes, mentions), too."
    )
    browser_concepts: int = Field(400, ge=0, description="Concepts in the mention browser: those with changed mentions or notes first.")
