"""Inputs that several rules files share: flags of commands, spec files, tables of knowledge bases, fetched weights, and which texts are licensed.

In: the configuration, and wildcards or input files of a job. Out: paths and flags. Knows nothing of any one stage.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mentionforge import versions
from mentionforge.config import Config
from mentionforge.layout import Resources, Results


class Wildcards(Protocol):
    """The wildcards of a job, as attributes."""

    def __getattr__(self, name: str) -> str:
        """The value of a wildcard."""
        ...


class Inputs(Protocol):
    """The inputs of a job, by their names in the rule."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """Path or paths of a named input."""
        ...


Paths = str | Sequence[str]
"""What an input function returns; an empty list: the job has no such input."""
InputFunction = Callable[[Wildcards], Paths]
ParamsFunction = Callable[[Wildcards, Inputs], str]
OutputParamsFunction = Callable[[Wildcards, Inputs], str]
"""Snakemake passes inputs or outputs by the name of the parameter."""


# --------------------------------------------------------------------------------------------------------------- flags


def as_list(value: Any) -> list[Any]:
    """Paths as a list; a single path becomes a list of one."""
    return [value] if isinstance(value, str) else list(value)


def one_of(names: Iterable[str]) -> str:
    """Regular expression for a wildcard that admits exactly these names."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


def flags(**roles: str) -> ParamsFunction:
    """Params function: command-line flags for inputs that may be absent or many, `--role path` for each path."""

    def text(wildcards: Wildcards, input: Inputs) -> str:
        pairs = [(flag, path) for role, flag in roles.items() for path in as_list(input.get(role, []))]
        return " ".join(f"{flag} {shlex.quote(str(path))}" for flag, path in pairs)

    return text


def output_flags(**roles: str) -> OutputParamsFunction:
    """Params function: command-line flags for outputs, `--role path` for each path."""

    def text(wildcards: Wildcards, output: Inputs) -> str:
        return flags(**roles)(wildcards, output)

    return text


def folder_flags(**roles: str) -> ParamsFunction:
    """Params function: command-line flags for the folders of tables that may be absent, one per role."""

    def text(wildcards: Wildcards, input: Inputs) -> str:
        return " ".join(f"{flag} {shlex.quote(str(Path(as_list(input.get(role))[0]).parent))}" for role, flag in roles.items() if input.get(role))

    return text


def each_folder(role: str, flag: str) -> ParamsFunction:
    """Params function: a command-line flag for the folder of every path of an input."""

    def text(wildcards: Wildcards, input: Inputs) -> str:
        return " ".join(f"{flag} {shlex.quote(str(Path(path).parent))}" for path in as_list(input.get(role, [])))

    return text


def parent_of(role: str) -> ParamsFunction:
    """Params function: the folder that an input's tables lie in."""

    def folder(wildcards: Wildcards, input: Inputs) -> str:
        return str(Path(as_list(input.get(role))[0]).parent)

    return folder


# --------------------------------------------------------------------------------------------------------------- inputs


class StageInputs:
    """Base of the input objects: the configuration, the layout, and inputs that several stages need."""

    def __init__(self, config: Config) -> None:
        """Keep the validated configuration, and the layout of its results and resources."""
        self.config = config
        self.results = Results(config.results)
        self.resources = Resources(config.resources)

    def spec(self, kind: str, entry: str) -> str:
        """Path of the spec file of an entry; `entry` may hold wildcards."""
        return self.results.spec(kind, entry)

    def raised(self, *parts: str) -> Callable[[Wildcards], list[str]]:
        """Input function: version specs of those parts of the code whose version was raised above the first; names of parts may hold wildcards.

        Only for parts whose version is in no spec of an entry.
        """

        def specs(wildcards: Any) -> list[str]:
            return [self.spec("parts", name) for name in (part.format(**dict(wildcards.items())) for part in parts) if versions.raised(name)]

        return specs

    def corpus_tables(self, corpus: str) -> list[str]:
        """Documents and mentions of a corpus."""
        return [self.results.corpus(corpus, f"{table}.parquet") for table in ("documents", "mentions")]

    def synthetic_tables(self, generator: str) -> list[str]:
        """Notes of a generator and their located mentions."""
        return [self.results.generation(generator, f"{table}.parquet") for table in ("located", "mentions")]

    def kb_tables(self, kind: str, *tables: str) -> InputFunction:
        """Input function: tables of the knowledge base of the corpus or generator (`kind`: corpora, generators) in the wildcards."""

        def paths(wildcards: Wildcards) -> list[str]:
            name = wildcards.corpus if kind == "corpora" else wildcards.generator
            return [self.results.kb(getattr(self.config, kind)[name].kb, f"{table}.parquet") for table in tables]

        return paths

    def weights_of(self, kind: str) -> InputFunction:
        """Input function: the fetched weights of the entry of `kind` (generators, recognizers, linkers) in the wildcards."""

        def stamp(wildcards: Wildcards) -> str:
            entry = getattr(self.config, kind)[getattr(wildcards, kind[:-1])]
            return self.resources.model(entry.model)

        return stamp

    def input_files(self, kind: str, name: str) -> list[str]:
        """Input files of a kb or corpus. If a licensed file is missing: the target of a job that fails and says how to obtain it."""
        entry = getattr(self.config, kind)[name]
        files: list[str] = []
        for path in map(Path, self.config.files(kind, name)):
            if path.is_dir():
                files.extend(str(p) for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith("."))
            elif path.exists() or str(path).startswith(self.resources.download("")):
                files.append(str(path))
            elif entry.licensed:
                return [self.results.missing(kind, name)]
            else:
                files.append(str(path))
        return files

    # ----------------------------------------------------------------------------------------------------- licensed text

    def is_licensed(self, kind: str, name: str) -> bool:
        """Whether the texts of a kb or corpus are licensed: the settings say so, or a file is neither from the repository nor a published download."""
        public_folders = (f"{self.resources.root}/demo/", self.resources.download(""), "resources/demo/")
        entry = getattr(self.config, kind)[name]
        return bool(getattr(entry, "licensed", None)) or not all(str(Path(path)).startswith(public_folders) for path in self.config.files(kind, name))

    def licensed_text(self, generator: str) -> bool:
        """Whether notes of a generator may hold licensed text: of its source, its knowledge base, or the corpus that it learns from."""
        g = self.config.generators[generator]
        text = g.training_text
        return bool(getattr(g, "licensed", None)) or self.is_licensed("kbs", g.kb) or (text is not None and self.is_licensed("corpora", text.corpus))
