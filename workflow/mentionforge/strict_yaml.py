"""One YAML document as plain data, and the place of each value; whatever YAML 1.1 silently reads as something else is an error with its row.

In: the text of a file, and its name for messages. Out: a mapping, and `Places`. Aliases are unfolded while they are counted; no tag but those of plain
values is known, nothing is run. Knows nothing of settings, overlays or the disk. Errors of YAML itself are PyYAML's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import yaml

from mentionforge.errors import UserError

MOST_VALUES = 200_000
"""Most values that a file may have, with its aliases unfolded."""

DEEPEST = 60
"""Most levels of mappings and lists that a file may have; the deepest setting has eight."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_MERGE = "tag:yaml.org,2002:merge"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a value is written: file, row (from 1; 0: of the command line), and its text, if it is a plain scalar."""

    file: str
    row: int
    written: str | None = None

    def __str__(self) -> str:
        """The place as messages name it."""
        return f"{self.file}:{self.row}" if self.row else self.file


Places = dict[Key, Place]
"""Places of values by their keys; of items of a list by their number, as text."""


@dataclass(frozen=True)
class Scalar:
    """A single value as written; `plain`: without quotes."""

    text: str
    tag: str | None
    row: int
    plain: bool


@dataclass
class Collection:
    """A mapping (keys and values in turn) or a list."""

    kind: str
    row: int
    items: list[Any] = field(default_factory=list)
    open: bool = True


class StrictReader:
    """Builds plain data from the parser's events. It recurses only after the depth was counted, so that no file exhausts the stack."""

    def __init__(self, file: str) -> None:
        self.file, self.places, self.values = file, Places(), 0
        self.resolver = yaml.SafeLoader("")

    def error(self, what: str, row: int, why: str, fix: str) -> UserError:
        """An error at a row of the file."""
        return UserError(what, f"{self.file}:{row}", why, fix)

    def whole(self, text: str) -> dict[str, Any]:
        """The mapping of a file."""
        root = self.tree(text)
        if root is None or (isinstance(root, Scalar) and root.plain and not root.text):
            raise self.error("no configuration", 1, "there is nothing in it", "give keys, as `results: results`, or leave the file out")
        if not isinstance(root, Collection) or root.kind != "map":
            found = "a list" if isinstance(root, Collection) else "a single value"
            raise self.error("no configuration", root.row, f"{found} stands where keys are wanted", "give keys at the top, as `linkers:`")
        data = self.value(root, ())
        assert isinstance(data, dict)
        return data

    def tree(self, text: str) -> Scalar | Collection | None:
        """The nodes of the document; an alias is the same node as its anchor."""
        anchors: dict[str, Scalar | Collection] = {}
        open_: list[Collection] = []
        root: Scalar | Collection | None = None
        documents = 0
        for event in self.events(text):
            row = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error("several documents", row, "a second one begins at ---", "put each into a file of its own, or remove the line")
            node: Scalar | Collection
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    raise self.error("no YAML", row, f"nothing is called &{event.anchor}", "correct the alias, or quote text that begins with *")
                node = anchors[event.anchor]
                if isinstance(node, Collection) and node.open:
                    raise self.error("no configuration", row, f"*{event.anchor} would hold itself", "write out what it is to hold")
            elif isinstance(event, yaml.ScalarEvent):
                node = Scalar(event.value, self.tag(event.tag, row, event.implicit), row, bool(event.implicit[0]))
            elif isinstance(event, yaml.CollectionStartEvent):
                self.tag(event.tag, row, (True, True))
                node = Collection("map" if isinstance(event, yaml.MappingStartEvent) else "seq", row)
                if event.tag and event.tag not in ("!", f"tag:yaml.org,2002:{node.kind}"):
                    raise self.error("no YAML", row, f"{_short(event.tag)} stands before a collection", "remove the tag")
            elif isinstance(event, yaml.CollectionEndEvent):
                open_.pop().open = False
                continue
            else:
                continue
            if open_:
                open_[-1].items.append(node)
            elif root is None:
                root = node
            if isinstance(event, yaml.NodeEvent) and event.anchor and not isinstance(event, yaml.AliasEvent):
                anchors[event.anchor] = node
            if isinstance(event, yaml.CollectionStartEvent):
                open_.append(node)  # type: ignore[arg-type]
                if len(open_) > DEEPEST:
                    raise self.error("no configuration", row, f"nested more than {DEEPEST} levels deep", "no setting lies that deep")
        return root

    @staticmethod
    def events(text: str) -> Iterator[Any]:
        """Events of PyYAML's parser."""
        loader = _LOADER(text)
        try:
            while loader.check_event():
                yield loader.get_event()
        finally:
            loader.dispose()

    def tag(self, tag: str | None, row: int, implicit: tuple[bool, bool]) -> str | None:
        """The tag that a node is written with; only those of plain values are allowed."""
        if tag is None or tag == "!" or (tag not in _PLAIN and any(implicit) and tag == _MERGE):
            return None if tag != "!" else _PLAIN[0]
        if tag not in _PLAIN:
            raise self.error("unknown tag", row, f"{_short(tag)} means nothing in a configuration", "remove it, or quote text that begins with !")
        return tag

    def value(self, node: Scalar | Collection, path: Key) -> Any:
        """Plain data of a node. The depth of the recursion is counted, aliases included."""
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.error("no configuration", node.row, f"with its aliases unfolded it has more than {MOST_VALUES:,} values", "use fewer aliases")
        if len(path) > DEEPEST:
            raise self.error("no configuration", node.row, f"with its aliases unfolded it is nested more than {DEEPEST} levels deep", "use fewer aliases")
        if isinstance(node, Scalar):
            self.places[path] = Place(self.file, node.row, node.text if node.plain else None)
            return self.scalar(node)
        self.places[path] = Place(self.file, node.row)
        if node.kind == "seq":
            return [self.value(item, (*path, str(i))) for i, item in enumerate(node.items)]
        found: dict[str, Any] = {}
        rows: dict[str, int] = {}
        merged: list[Collection] = []
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            if isinstance(key, Scalar) and key.plain and key.text == "<<":
                merged += self.merged(value, key.row)
                continue
            name = self.key(key, node)
            if name in rows:
                raise self.error("key given twice", key.row, f"{name!r:.60} stands in row {rows[name]} too", "keep one of them")
            rows[name] = key.row
            found[name] = self.value(value, (*path, name))
            self.places[(*path, name)] = Place(self.file, key.row, self.places[(*path, name)].written)
        for other in merged:
            for name, value in self.value(other, path).items():
                found.setdefault(name, value)
        return found

    def merged(self, node: Scalar | Collection, row: int) -> list[Collection]:
        """The mappings that `<<` merges in, by falling precedence."""
        nodes = node.items if isinstance(node, Collection) and node.kind == "seq" else [node]
        found = [n for n in nodes if isinstance(n, Collection) and n.kind == "map"]
        if len(found) < len(nodes):
            raise self.error("no YAML", row, "<< takes a mapping, or a list of them", "name one by its alias, as `<<: *name`")
        return found

    def key(self, node: Scalar | Collection, holder: Collection) -> str:
        """The text of a key."""
        if isinstance(node, Collection):
            raise self.error("no key", node.row, "a list or mapping stands where a key is wanted", "give it a name; quote text that begins with [ or {")
        value = self.scalar(node)
        if not isinstance(value, str):
            if not node.text:
                raise self.error("no key", node.row, "there is none before the colon", "give one")
            read_as = json.dumps(value) if value is None or isinstance(value, bool) else f"the number {value}"
            raise self.error("no key", node.row, f"YAML reads {node.text} as {read_as}", f'quote it: "{node.text}":')
        return value

    def scalar(self, node: Scalar) -> Any:
        """The value that YAML 1.1 gives a scalar, unless it is one that nobody means."""
        tag = node.tag or (self.resolver.resolve(yaml.ScalarNode, node.text, (True, False)) if node.plain else _PLAIN[0])
        try:
            value = self.resolver.construct_object(yaml.ScalarNode(tag, node.text))
        except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise self.error(
                "bad value", node.row, f"{node.text!r:.60} is no {tag.rpartition(':')[2]}", f"correct it, or quote it: {_quoted(node.text)}"
            ) from error
        if isinstance(value, str):
            if re.search("[\ud800-\udfff\0]", value):
                raise self.error("bad value", node.row, f"{value!r:.60} holds a character that no text has", "remove it")
            return value
        if isinstance(value, date):
            raise self.error("bad value", node.row, f"YAML reads {node.text} as a date", f"quote it: {_quoted(node.text)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error("bad value", node.row, f"{node.text} is no finite number", f"give a finite one, or quote it: {_quoted(node.text)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if ":" in node.text or re.match(r"[-+]?0[0-9_]", node.text):
                raise self.error("bad value", node.row, f"YAML reads {node.text} as the number {value}", f"quote it: {_quoted(node.text)}, or write {value}")
        elif value is not None and not isinstance(value, bool):
            raise self.error("bad value", node.row, f"{node.text!r:.60} is read as {type(value).__name__}", f"quote it: {_quoted(node.text)}")
        return value


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:60]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[:60]
