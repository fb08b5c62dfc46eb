"""What a matcher remembers of chunks (stretches between blanks), and what it is to look for in a text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mentionforge.generation.matching.forms import FORM, Form, forms_of, places_of
from mentionforge.generation.matching.names import Name, Order, Search


class Memory(dict[Any, Any]):
    """Values of a function, each computed when it is first asked for."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self.compute = compute

    def __missing__(self, key: Any) -> Any:
        """Compute the value and keep it."""
        found = self[key] = self.compute(key)
        return found


class Chunks(dict[str, "Hit | None"]):
    """What stretches between blanks hold; each is learnt when it is first asked for.

    Args:
        kinds: A stretch is looked at only if it has one of these; see `forms_of`.
        learn: What the word forms of a stretch hold.
    """

    def __init__(self, kinds: set[str], learn: Callable[[Iterable[Form]], Hit | None]) -> None:
        super().__init__()
        self.strange, self.learn = kinds.isdisjoint, learn

    def __missing__(self, chunk: str) -> Hit | None:
        """Learn what the chunk holds and keep it."""
        kinds, forms = forms_of(chunk)
        found = self[chunk] = None if self.strange(kinds) else self.learn(forms)
        return found


class Hit(NamedTuple):
    """What a stretch between blanks holds of the names.

    Attributes:
        forms: Word forms that may stand for words of the names.
        present: Those words, as bits.
        both: Those words, and those of them that do not stand as they are.
        divided: Whether a hyphen divides one of the forms.
    """

    forms: tuple[str, ...]
    present: int
    both: tuple[int, int]
    divided: bool


class Choice(NamedTuple):
    """What to look for in a text that has certain words.

    Attributes:
        exact: Names all of whose words the text has in some form.
        fuzzy: Forms of the words of those that have a word in another form, or punctuation.
        orders: Their words in other orders, each with the word before "of", if it has one.
    """

    exact: list[Name]
    fuzzy: list[Search]
    orders: list[Order]


NO_CHOICE = Choice([], [], [])


@dataclass
class View:
    """A text as a matcher sees it.

    Attributes:
        folded: The text by `fold_case`.
        choice: What to look for in it.
        hits: Its stretches between blanks that hold something of the names.
        divided: Where a hyphen divides one of these: words that a hyphen divides, with start, end, and the word without it.
        found: What `places` has found.
        forms: For words of the names, the forms that may stand for them, and their slips.
    """

    folded: str
    choice: Choice
    hits: Sequence[Hit] = ()
    divided: Sequence[tuple[int, int, str]] = ()
    found: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    forms: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    @functools.cached_property
    def close(self) -> list[str]:
        """Word forms of the text that may stand for words of the names."""
        return list(dict.fromkeys(form for hit in self.hits for form in hit.forms))

    def places(self, form: str) -> list[tuple[int, int]]:
        """Where a word form begins and ends, not inside words; also where a hyphen divides it."""
        if form not in self.found:
            found = [(start, whole.end()) for start in places_of(self.folded, form) if (whole := FORM.match(self.folded, start)) and whole[0] == form]
            self.found[form] = found + [(begun, end) for begun, end, whole in self.divided if whole == form]
        return self.found[form]
