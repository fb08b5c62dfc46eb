"""One YAML document as plain data, with the position of each value; a value that YAML 1.1 silently changes is an error with its row.

In: the text of a file, and its name for messages. Out: a mapping, and `Positions`. Aliases are unfolded up to a limit, and only tags of plain values
are known. Errors of YAML itself are PyYAML's. Knows nothing of settings, overlays or the disk.
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
"""Most values of a file, with its aliases unfolded."""

DEEPEST = 60
"""Most levels of mappings and lists in a file; the deepest setting has eight."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_MERGE = "tag:yaml.org,2002:merge"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Position:
    """Where a value is written: file, row (1-based; 0: the command line), and its text if it is a scalar without quotes."""

    file: str
    row: int
    written: str | None = None

    def __str__(self) -> str:
        """The position as messages show it: FILE:ROW."""
        return f"{self.file}:{self.row}" if self.row else self.file


Positions = dict[Key, Position]
"""Positions of values by their path of keys; an item of a list has its number, as text, for a key."""


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
    """Builds plain data from PyYAML's events. It checks the depth before it recurses, so that no file exhausts the stack."""

    def __init__(self, file: str) -> None:
        self.file, self.positions, self.values = file, Positions(), 0
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
            kind = "a list" if isinstance(root, Collection) else "a single value"
            raise self.error("no configuration", root.row, f"{kind} stands where keys are wanted", "give keys at the top, as `linkers:`")
        data = self.value(root, ())
        assert isinstance(data, dict)
        return data

    def tree(self, text: str) -> Scalar | Collection | None:
        """The root node of the document; an alias is the same object as its anchor."""
        anchors: dict[str, Scalar | Collection] = {}
        open_collections: list[Collection] = []
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
                open_collections.pop().open = False
                continue
            else:
                continue
            if open_collections:
                open_collections[-1].items.append(node)
            elif root is None:
                root = node
            if isinstance(event, yaml.NodeEvent) and event.anchor and not isinstance(event, yaml.AliasEvent):
                anchors[event.anchor] = node
            if isinstance(event, yaml.CollectionStartEvent):
                open_collections.append(node)  # type: ignore[arg-type]
                if len(open_collections) > DEEPEST:
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
        """The explicit tag of a node, if any; only tags of plain values are allowed."""
        if tag is None or tag == "!" or (tag not in _PLAIN and any(implicit) and tag == _MERGE):
            return None if tag != "!" else _PLAIN[0]
        if tag not in _PLAIN:
            raise self.error("unknown tag", row, f"{_short(tag)} means nothing in a configuration", "remove it, or quote text that begins with !")
        return tag

    def value(self, node: Scalar | Collection, path: Key) -> Any:
        """Plain data of a node, with aliases unfolded. Number of values and depth are limited."""
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.error("no configuration", node.row, f"with its aliases unfolded it has more than {MOST_VALUES:,} values", "use fewer aliases")
        if len(path) > DEEPEST:
            raise self.error("no configuration", node.row, f"with its aliases unfolded it is nested more than {DEEPEST} levels deep", "use fewer aliases")
        if isinstance(node, Scalar):
            self.positions[path] = Position(self.file, node.row, node.text if node.plain else None)
            return self.scalar(node)
        self.positions[path] = Position(self.file, node.row)
        if node.kind == "seq":
            return [self.value(item, (*path, str(i))) for i, item in enumerate(node.items)]
        mapping: dict[str, Any] = {}
        rows: dict[str, int] = {}
        merged: list[Collection] = []
        for key, value in zip(node.items[::2], node.items[1::2], strict=True):
            if isinstance(key, Scalar) and key.plain and key.text == "<<":
                merged += self.merged(value, key.row)
                continue
            text = self.key(key, node)
            if text in rows:
                raise self.error("key given twice", key.row, f"{text!r:.60} stands in row {rows[text]} too", "keep one of them")
            rows[text] = key.row
            mapping[text] = self.value(value, (*path, text))
            self.positions[(*path, text)] = Position(self.file, key.row, self.positions[(*path, text)].written)
        for source in merged:
            for text, value in self.value(source, path).items():
                mapping.setdefault(text, value)
        return mapping

    def merged(self, node: Scalar | Collection, row: int) -> list[Collection]:
        """The mappings that `<<` merges in, highest precedence first."""
        nodes = node.items if isinstance(node, Collection) and node.kind == "seq" else [node]
        mappings = [n for n in nodes if isinstance(n, Collection) and n.kind == "map"]
        if len(mappings) < len(nodes):
            raise self.error("no YAML", row, "<< takes a mapping, or a list of them", "name one by its alias, as `<<: *name`")
        return mappings

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
        """The value of a scalar in YAML 1.1; an error for values that nobody means, as 750 for 12:30."""
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
