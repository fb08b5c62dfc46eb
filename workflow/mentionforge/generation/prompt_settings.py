"""Settings of an entry of `prompts`: the text that a language model is asked with, or the sentences of a control.

In: an entry. Out: its model, and the type of the key `prompt` of a generator. Knows nothing of how templates are rendered (`templates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mentionforge.entries import Entry
from mentionforge.errors import UserError
from mentionforge.generation.markers import CLOSE, OPEN


def prompt_then_note(frame: str | None) -> str | None:
    """The frame, if it has one place for the prompt and ends with the note."""
    if frame is not None and (frame.count("{prompt}") != 1 or frame.count("{note}") != 1 or not frame.endswith("{note}")):
        raise ValueError("it must hold {prompt} once and end with {note}")
    return frame


class Prompt(Entry):
    """What a language model is asked about a concept, or the sentences into which a control puts its names."""

    template: str | None = Field(
        None,
        examples=["Write a note about a patient with {{ preferred }}."],
        description="Jinja2 template of the prompt of a language model; docs/prompts.md lists its variables.",
    )
    sentences: tuple[str, ...] = Field(
        (),
        examples=[["The patient has {{ name }}."]],
        description="Jinja2 templates of the notes of a generator of kind template, in turn; {{ name }} is the name.",
    )
    style: Literal["chat", "plain"] | None = Field(None, description="prompt_style of the generators that name this entry; their own setting goes before.")
    frame: Annotated[str | None, AfterValidator(prompt_then_note)] = Field(
        None,
        examples=["Instruction: {prompt}\nNote: {note}"],
        description="frame of these generators, with the marks of instruction and answer; {prompt} once, and {note} at its end. Means style plain.",
    )
    markers: tuple[str, str] = Field((OPEN, CLOSE), description="What stands before and after a mention, in prompts and in the notes that answer them.")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), examples=[["\n\n"]], description="A note ends before the first of these texts.")
    language: str = Field("English", min_length=1, description="Language of the notes, as the template names it.")

    @model_validator(mode="after")
    def _one_use(self) -> Prompt:
        if (self.template is None) == (not self.sentences):
            raise ValueError("give template (for a language model) or sentences (for a generator of kind template)")
        if self.sentences and (self.style or self.frame or self.stop or self.markers != (OPEN, CLOSE)):
            raise ValueError("style, frame, stop and markers are for language models; remove them, or give template instead of sentences")
        if self.frame and self.style == "chat":
            raise ValueError("a chat prompt has no frame; remove frame, or set style: plain")
        if self.markers != (OPEN, CLOSE):
            self._check_markers()
        if bad := [one for one in self.stop if any(one in marker for marker in self.markers)]:
            raise ValueError(f"stop holds {bad[0]!r}, which is a part of a marker, so that each note would end before its first mention")
        return self

    def _check_markers(self) -> None:
        """Notes are searched for markers in any case: one must not be found in the other, in the usual tags, or in words."""
        first, second = (one.casefold() for one in self.markers)
        tags = (OPEN + CLOSE).casefold()
        if not first.strip() or not second.strip() or first in tags or second in tags or first in second or second in first:
            raise ValueError(f"markers must be two texts of which none is part of the other, of {OPEN} or of {CLOSE}, in any case")
        if bad := [one for one in self.markers if all(c.isalnum() or c.isspace() for c in one)]:
            raise ValueError(f"the marker {bad[0]!r} could stand in a note as a word; add a sign, as in [[ or #")

    def asked_for(self, style: str, frame: str, own_keys: frozenset[str] | set[str]) -> dict[str, str]:
        """Style and frame for a generator that names this entry, where it has none of its own.

        Args:
            style: The generator's prompt_style.
            frame: The generator's frame.
            own_keys: Keys that the generator gives itself.
        """
        own = {"prompt_style": self.style or ("plain" if self.frame else None), "frame": self.frame}
        settings = {"prompt_style": style, "frame": frame}
        return settings | {key: value for key, value in own.items() if value is not None and key not in own_keys}


def part_of_prompt(prompt: Prompt, part: str) -> dict[str, Any] | None:
    """What a spec file of a generator holds of its prompt, or none if that part of the stage does not read it.

    Args:
        prompt: The entry.
        part: One of `generation.settings.STEPS`. Style and frame are settings of the generator itself.
    """
    wording = {"template", "sentences", "markers", "language"}
    fields: Mapping[str, set[str]] = {"prompts": wording, "finetune": wording, "sampling": wording | {"stop"}}
    return prompt.model_dump(mode="json", include=fields[part], exclude_defaults=True) if part in fields else None


def named(key: str, name: str | Prompt, prompts: Mapping[str, Prompt]) -> Prompt:
    """The entry that a generator names.

    Args:
        key: Key of the generator for messages.
        name: Its key `prompt`.
        prompts: All entries.

    Raises:
        UserError: There is no such entry.
    """
    if isinstance(name, str) and name in prompts:
        return prompts[name]
    if not isinstance(name, str):
        raise UserError("no name", f"{key}.prompt", "a whole prompt stands there", "write it as an entry of prompts, and its name here")
    near = get_close_matches(name, prompts, n=1, cutoff=0.6)
    raise UserError(f"unknown prompt {name!r}", f"{key}.prompt", "", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(prompts))}")


NamedPrompt = Annotated[str | Prompt, WithJsonSchema({"type": "string"})]
"""The key `prompt` of a generator: the name of an entry in the configuration, the entry itself in a spec file."""
