"""Renders the templates of prompts and sentences (Jinja2, in a sandbox), and checks them with sample concepts.

In: an entry of `prompts`, and what is known of a concept. Out: the text of a prompt or note, or one error that names the key and the fix.
Knows nothing of models, tokens and tables.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from mentionforge.errors import UserError
from mentionforge.generation.prompt_settings import Prompt
from mentionforge.semantics import NAMES

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


@dataclass(frozen=True)
class ShownExample:
    """An example in a prompt: the concept's name, and a tagged text that mentions it."""

    name: str
    text: str


@dataclass(frozen=True)
class Asked:
    """What a template can say of a concept.

    Attributes:
        names: The preferred name, then others that differ by more than spelling and word order.
        definition: Definition, or none.
        semantic_types: Codes of its types (T047).
        parents: Preferred names of the concepts directly above it.
        examples: Examples of other concepts, with the markers of the prompt.
    """

    names: tuple[str, ...]
    definition: str | None = None
    semantic_types: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    examples: tuple[ShownExample, ...] = ()


OF_CONCEPTS = ("definition", "language", "names", "preferred", "semantic_type")
OF_TEMPLATE = (*OF_CONCEPTS, "close", "examples", "open", "parents")
"""Variables of a `template`."""
OF_SENTENCES = (*OF_CONCEPTS, "name")
"""Variables of `sentences`: `name` is the name whose turn it is."""

FULL = Asked(
    ("Quorvian syndrome", "quorvic disease", "Zelph's disorder", "zelphism", "ultraquorvia"),
    "A rare condition of nobody, which exists in this check alone.",
    ("T047",),
    ("Conditions of nobody",),
    (ShownExample("brontitis", "Seen for {0} brontitis {1}."), ShownExample("wombalgia", "No sign of {0} wombalgia {1} today.")),
)
"""Sample concept with all that a concept can have."""
BARE = Asked(FULL.names[:1])
"""Sample concept with a name alone."""

MAX_SECONDS = 5
"""CPU time in which a sample concept's text must be there."""
MAX_TEXT = 1_000_000
"""Characters that a text may have."""


def prompt_text(prompt: Prompt, asked: Asked, cui: str = "") -> str:
    """The prompt about a concept, without blanks at its ends.

    Args:
        prompt: The entry.
        asked: What is known of the concept.
        cui: The concept, for messages, which must not quote names.

    Raises:
        UserError: The template fails for this concept.
    """
    assert prompt.template is not None, "the config is checked for it"
    return _rendered(prompt.template, _values(prompt, asked), "config: prompts.*.template", f"for {cui}: " if cui else "")


def sentence_text(prompt: Prompt, number: int, asked: Asked, name: str) -> str:
    """Sentence `number` of a prompt's `sentences`, with a name in it.

    Raises:
        UserError: The template fails for this concept.
    """
    return _rendered(prompt.sentences[number], _values(prompt, asked) | {"name": name}, f"config: prompts.*.sentences.{number}")


@functools.cache
def variables(prompt: Prompt) -> frozenset[str]:
    """Names of the variables that a valid template reads."""
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(_environment().parse(prompt.template or "")))


def check(key: str, prompt: Prompt) -> None:
    """Render all templates of an entry for two sample concepts, one of which has nothing but a name.

    Args:
        key: Key of the entry, as "config: prompts.NAME".
        prompt: The entry.

    Raises:
        UserError: Unknown variable or syntax, a failure, no text, or no name of the concept.
    """
    from jinja2 import TemplateSyntaxError, meta

    known, fix = (OF_TEMPLATE, "{{ preferred }}") if prompt.template is not None else (OF_SENTENCES, "{{ name }}")
    for where, template in _templates(key, prompt):
        try:
            read = meta.find_undeclared_variables(_environment().parse(template))
        except TemplateSyntaxError as error:
            raise UserError("wrong template", where, f"line {error.lineno}: {error.message}", "correct it; docs/prompts.md has examples") from error
        except RecursionError as error:
            raise UserError("wrong template", where, "it is nested too deeply", "write it with fewer brackets and conditions") from error
        if unknown := sorted(read - set(known)):
            near = get_close_matches(unknown[0], known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise UserError(f"unknown variable {unknown[0]!r}", where, "", hint)
        for asked, form in ((FULL, "with a definition"), (BARE, "with a name alone, without a definition")):
            values = _values(prompt, _marked(asked, prompt)) | ({"name": asked.names[-1]} if prompt.sentences else {})
            with _time_limit():
                text = _rendered(template, values, where, f"for a concept {form}: ")
            if not any(name in text for name in asked.names):
                raise UserError("no name of the concept", where, f"the text for a concept {form} holds none", f"write {fix} where the name belongs")


def _templates(key: str, prompt: Prompt) -> Iterator[tuple[str, str]]:
    """Key and text of each template of an entry."""
    if prompt.template is not None:
        yield f"{key}.template", prompt.template
    for number, sentence in enumerate(prompt.sentences):
        yield f"{key}.sentences.{number}", sentence


def _marked(asked: Asked, prompt: Prompt) -> Asked:
    """A sample concept whose examples have the markers of the prompt."""
    return Asked(
        asked.names, asked.definition, asked.semantic_types, asked.parents, tuple(ShownExample(e.name, e.text.format(*prompt.markers)) for e in asked.examples)
    )


def _values(prompt: Prompt, asked: Asked) -> dict[str, Any]:
    """The variables. What a concept lacks is empty, so that `{% if definition %}` tells whether there is one."""
    return {
        "names": asked.names,
        "preferred": asked.names[0],
        "definition": asked.definition or "",
        "semantic_type": ", ".join(NAMES.get(code, code) for code in asked.semantic_types),
        "parents": asked.parents,
        "examples": asked.examples,
        "language": prompt.language,
        "open": prompt.markers[0],
        "close": prompt.markers[1],
    }


def _rendered(template: str, values: Mapping[str, Any], where: str, whom: str = "") -> str:
    """The text of a template.

    Raises:
        UserError: It fails, or gives no text.
    """
    try:
        text = str(_compiled(template).render(values)).strip()
    except TimeoutError as error:
        raise UserError("template takes too long", where, f"more than {MAX_SECONDS} s", "loop over fewer values") from error
    except Exception as error:  # a template is code of the user, which may raise anything
        why = f"{whom}{type(error).__name__}: {error}"
        raise UserError("template fails", where, why, "guard what a concept may lack, as {% if definition %}") from error
    if not text:
        raise UserError("empty text", where, f"{whom}the template gives none", "write text outside of the conditions")
    if len(text) > MAX_TEXT:
        raise UserError("text too long", where, f"{whom}{len(text):,} characters", f"at most {MAX_TEXT:,}; models read far fewer")
    return text


@contextmanager
def _time_limit() -> Iterator[None]:
    """A TimeoutError after MAX_SECONDS of CPU time; without effect outside of the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@functools.cache
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@functools.cache
def _environment() -> SandboxedEnvironment:
    """Templates cannot reach the program, change what they get, read files or draw at random: a prompt depends on its concept alone."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    del environment.filters["random"], environment.globals["lipsum"]
    environment.filters["first_words"] = first_words
    environment.intercepted_binops = frozenset({"*", "**"})  # single steps, which no time limit interrupts
    environment.binop_table |= {"*": _times, "**": _power}
    return environment


def _times(left: Any, right: Any) -> Any:
    for repeated, times in ((left, right), (right, left)):
        if isinstance(repeated, str | list | tuple) and isinstance(times, int) and len(repeated) * times > MAX_TEXT:
            raise ValueError(f"a text repeated {times:,} times is too long")
    return left * right


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > MAX_TEXT:
        raise ValueError("a power is too large")
    return base**exponent


def first_words(text: str, most: int) -> str:
    """The beginning of a text, with … if it has more words. A filter of templates."""
    words: Sequence[str] = text.split()
    return " ".join(words) if len(words) <= most else " ".join(words[:most]) + " …"
