"""The first configuration for a corpus, knowledge base and model of one's own: a short overlay, and what it would run.

In: answers or flags. Out: the text of my.yaml, validated; numbers of jobs by stage. Knows nothing of what stages do, or of terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mentionforge.config import load_config, resolve_input_paths
from mentionforge.config_files import merge, read_file
from mentionforge.errors import UserError
from mentionforge.planning.plan import Job, plan

CHECKOUT = Path(__file__).resolve().parents[3]
NAME = "mine"
"""Name of the corpus, the knowledge base and the models in the file that is written."""

STRATEGIES = ["none", "naive", "ideal", "supplemental", "ablation"]
SEEDED = {"seed": 13, "shares": {"train": 0.7, "dev": 0.1, "test": 0.2}}
ONTOLOGIES = (".obo", ".owl", ".json", ".obo.gz", ".owl.gz", ".json.gz", ".obo.zst", ".owl.zst", ".json.zst")
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Answers:
    """What a first configuration is made of; paths count from the folder of the run."""

    reader: str
    kb: str
    splits: Mapping[str, Sequence[str]]
    """Files or folders of train, dev and test; or of `all`, which is then split by document with a seed."""
    id_prefix: str | None = None
    llm: str | None = None
    encoder: str | None = None
    results: str = "results/mine"


def overlay(answers: Answers) -> dict[str, Any]:
    """The overlay on config.yaml: names of one's own, and an experiment that uses nothing of the demo but its small encoder, if no other is named."""
    corpus: dict[str, Any] = {"reader": answers.reader, "kb": NAME}
    corpus |= {"id_prefix": answers.id_prefix} if answers.id_prefix else {}
    if "all" in answers.splits:
        corpus |= {"source": list(answers.splits["all"]), "seeded_split": SEEDED}
    else:
        corpus |= {"splits": {split: list(paths) for split, paths in answers.splits.items() if paths}}
    data: dict[str, Any] = {"results": answers.results}
    models = {f"{NAME}_llm": answers.llm, f"{NAME}_encoder": answers.encoder}
    data |= {"models": {name: model(source) for name, source in models.items() if source}} if any(models.values()) else {}
    data |= {"kbs": {NAME: knowledge_base(answers.kb)}, "corpora": {NAME: corpus}}
    # config.yaml's controls have 140 concepts; these have all, as the language model has.
    generators: dict[str, Any] = {kind: {"kind": kind, "kb": NAME, "concepts": {"max": None}} for kind in ("names", "template")}
    if answers.llm:
        generators[f"{NAME}_llm"] = {"kind": "llm", "kb": NAME, "model": f"{NAME}_llm", "notes_per_concept": 1, "finetune": {"corpus": NAME}}
    encoder = f"{NAME}_encoder" if answers.encoder else "minilm"
    data |= {"generators": generators, "linkers": {NAME: {"kind": "mention", "model": encoder}}, "recognizers": {NAME: {"model": encoder}}}
    grid = {"corpora": [NAME], "generators": list(generators), "strategies": STRATEGIES}
    data["experiment"] = {
        "normalization": [{**grid, "linkers": [NAME], "indexes": ["train", "kb", "train+kb"]}],
        "recognition": [{**grid, "strategies": ["none", "supplemental"], "recognizers": [NAME]}],
    }
    return data


def model(source: str) -> dict[str, str]:
    """The entry of a model: a folder that exists, or a name on the hub."""
    return {"path": source} if Path(source).is_dir() else {"hub": source}


def knowledge_base(path: str) -> dict[str, Any]:
    """The entry of a knowledge base: an ontology or a table, by the ending of the file, or a release of UMLS (a folder or a zip)."""
    if path.endswith(ONTOLOGIES):
        return {"source": "ontologies", "others": {NAME: {"path": path}}}
    if path.lower().endswith(TABLES):
        return {"source": "table", "path": path}
    return {"source": "rrf", "path": path}


def text(data: Mapping[str, Any], out: Path) -> str:
    """The file: what it is, how it runs, and the overlay."""
    schema = CHECKOUT / "workflow" / "schemas" / "file.schema.json"
    head = [f"# yaml-language-server: $schema={schema.as_uri()}", f"# Over config.yaml, which says what else can be set: snakemake --configfile {out}"]
    return "\n".join(head) + "\n" + yaml.dump(dict(data), Dumper=_Plain, default_flow_style=None, sort_keys=False, width=110, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes a list that occurs twice in full twice: nobody edits anchors gladly."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether what occurs again is written in full: always."""
        return True


def validate(data: Mapping[str, Any], root: Path) -> None:
    """Check the overlay on the workflow's config.yaml.

    Raises:
        UserError: What a run would refuse, files that do not exist included; or the package is not that of a checkout.
    """
    base = CHECKOUT / "config.yaml"
    if not base.is_file():
        raise UserError("no workflow", str(CHECKOUT), "the package is not that of a checkout", "install the checkout: pip install -e FOLDER")
    merged = merge(read_file(base)[0], data)
    load_config(resolve_input_paths(merged, root, CHECKOUT), root=root)


def planned(path: Path, root: Path) -> list[Job]:
    """Jobs that a run in `root` with this overlay would start."""
    where = [] if root.resolve() == CHECKOUT else ["--directory", str(root)]
    return [job for job in plan([*where, "--configfile", str(path.resolve())], CHECKOUT) if job.pending]


def by_stage(jobs: Sequence[Job], results: str) -> Counter[str]:
    """Numbers of jobs by stage, as the folders of their logs say."""
    return Counter(Path(job.log[0]).relative_to(f"{results}/logs").parts[0] for job in jobs if job.log)
