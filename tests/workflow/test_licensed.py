"""Licensed text: left out of page, summary and logs, unless the config says that the page stays private."""

import html
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jobs import planned

from checkout import ROOT
from mentionforge.config_files import merge
from mentionforge.report.page import write_page

LONG = 30
"""Characters from which a text is taken to stand nowhere by chance."""


def texts_of(rich: Path) -> dict[str, set[str]]:
    """Definitions of the knowledge base, sentences and mentions of the notes' corpus, and notes of every generator."""
    results = rich / "results"
    definitions = pd.read_parquet(results / "kb/demo/concepts.parquet")["definition"].dropna()
    documents = pd.read_parquet(results / "corpora/demo_semeval/documents.parquet")
    sentences = {row.text[s["start"] : s["end"]] for row in documents.itertuples() for s in row.sentences}
    notes = pd.concat([pd.read_parquet(p)["text"] for p in sorted((results / "generation").glob("*/located.parquet"))])
    found = {"definitions": set(definitions), "sentences": sentences, "notes": set(notes)}
    return {name: {t for t in texts if len(t) >= LONG} for name, texts in found.items()}


def holding(text: str, wanted: set[str]) -> set[str]:
    """Which of the wanted texts stand in a page or file, as they are, or as JSON or HTML writes them."""
    return {t for t in wanted if any(form in text for form in (t, json.dumps(t, ensure_ascii=False)[1:-1], json.dumps(t)[1:-1], html.escape(t)))}


@pytest.fixture(scope="module")
def render(rich: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function that writes the page of the finished run with everything licensed, private or not."""
    results = rich / "results"
    licensed = ["kbs/demo", "corpora/demo_semeval", "corpora/demo_ncbi", *(f"generators/{g}" for g in ("smollm2", "template", "names"))]

    def page(private: bool) -> str:
        out = tmp_path_factory.mktemp("page") / "index.html"
        metrics = [p for t in ("recognition", "normalization", "end_to_end") for p in sorted((results / "evaluation" / t).glob("*.parquet"))]
        errors = [p for p in metrics if p.name.endswith(".errors.parquet")]
        spans, wrong = ([p for p in errors if p.parent.name == task] for task in ("recognition", "normalization"))
        compared = sorted((results / "statistics").rglob("comparisons.parquet"))
        stamps = sorted((rich / "resources/models").glob("*/fetched.json"))
        write_page(results, [p for p in metrics if p not in errors], compared, spans, stamps, "digest", licensed, private, 400, out, wrong)
        return out.read_text(encoding="utf-8")

    return page


def test_page_leaves_licensed_text_out_unless_it_stays_private(rich: Path, render) -> None:
    wanted = texts_of(rich)
    names = {n for n in pd.read_parquet(rich / "results/kb/demo/names.parquet")["name"] if len(n) >= LONG}
    assert all(wanted.values()) and names
    page = render(private=False)
    assert {kind: holding(page, texts) for kind, texts in wanted.items()} == {"definitions": set(), "sentences": set(), "notes": set()}
    assert holding(page, names) == set()
    assert "Texts of licensed inputs are left out" in page and '"surface":null' in page and '"surface":"' not in page
    page = render(private=True)
    assert holding(page, wanted["definitions"]) and holding(page, wanted["notes"]) and holding(page, names)
    assert '"surface":"' in page and "Texts of licensed inputs are left out" not in page


def test_summary_and_logs_never_hold_text(rich: Path) -> None:
    """Whatever the config says: files that are passed around, and logs that are pasted into issues."""
    wanted = texts_of(rich)
    everything = set().union(*wanted.values())
    files = [p for folder in ("summary", "logs") for p in sorted((rich / "results" / folder).rglob("*")) if p.is_file() and p.suffix != ".pdf"]
    assert len(files) > 50
    found = {p.name: holding(p.read_text(encoding="utf-8"), everything) for p in files}
    assert {name: texts for name, texts in found.items() if texts} == {}


def flags(rich: Path, tmp_path: Path, change: dict) -> str:
    """What the page's command is told of licences, after a change of the config."""
    raw: dict = {}
    for name in ("mini", "rich"):
        merge(raw, yaml.safe_load((ROOT / f"tests/{name}.yaml").read_text()))
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(merge(raw, change)))
    (command,) = [job.command for job in planned(rich, "--configfile", str(overlay), "--forcerun", "page") if job.verb == "report page"]
    return command.split("--config-digest")[1].split("--concepts")[0]


def test_config_says_what_is_licensed(rich: Path, tmp_path: Path) -> None:
    """The key `licensed` counts, and so does input that is neither the repository's own nor a published download: nobody has to think of it."""
    assert "--licensed" not in flags(rich, tmp_path, {})
    found = flags(rich, tmp_path, {"kbs": {"demo": {"licensed": "sign the licence"}}})
    assert all(f"--licensed {entry}" in found for entry in ("kbs/demo", "generators/smollm2", "generators/names")) and "--private" not in found
    found = flags(rich, tmp_path, {"corpora": {"demo_semeval": {"licensed": "ask"}}, "report": {"private": True}})
    assert "--licensed corpora/demo_semeval" in found and "--licensed generators/smollm2" in found and "--private" in found
    assert "kbs/demo" not in found and "generators/names" not in found
    own = tmp_path / "umls"
    shutil.copytree(rich / "resources/demo/umls/META", own / "META")
    found = flags(rich, tmp_path, {"kbs": {"demo": {"path": str(own / "META")}}})
    assert "--licensed kbs/demo" in found and "--licensed generators/smollm2" in found and "corpora/demo_ncbi" not in found
    notes = {split: [str(rich / f"resources/demo/semeval/{split}")] for split in ("train", "dev", "test")}
    found = flags(rich, tmp_path, {"corpora": {"demo_semeval": {"splits": notes}}})
    assert "--licensed corpora/demo_semeval" in found
