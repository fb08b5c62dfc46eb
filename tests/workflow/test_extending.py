"""The examples of docs/extending.md: each is written into a copy of the repository and run there, as the page says, and its results are checked by hand."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from checkout import BIN, ROOT, copy_checkout, snakemake

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in re.split(r"^## ", PAGE, flags=re.M))}
FORMAT, SOURCE, LINKER, FILTER, BACKEND, GENERATOR, SCORE = EXAMPLES = (
    "A corpus format", "A source of knowledge bases", "A linker", "A filter", "A generation backend", "A generator", "A score",
)  # fmt: skip
MOST_LINES = 40
FILE = re.compile(r"# (workflow/\S+)\n")
"""The first line of a block of code: the file that it is, or changes."""


def blocks(title: str, language: str) -> list[str]:
    """The blocks of a language in a section of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[title], re.M | re.S)


def add(folder: Path, title: str) -> list[Path]:
    """Write the new files of an example into a copy of the repository, change the lines that it changes, and return the new files."""
    new = []
    for code in blocks(title, "python"):
        path = folder / FILE.match(code)[1]
        assert not path.exists()
        path.write_text(code.partition("\n")[2], encoding="utf-8")
        new.append(path)
    for change in blocks(title, "diff"):
        path = folder / FILE.match(change)[1]
        text = path.read_text(encoding="utf-8")
        # A line that is kept or removed is one line of the file; what is added stands behind it.
        at = 0
        for line in change.splitlines()[1:]:
            sign, line = line[:1], f"{line[1:]}\n"
            if sign == "+":
                text = text[:at] + line + text[at:]
                at += len(line)
                continue
            assert text.count(f"\n{line}") == 1, f"{path.name}: {line}"
            place = text.index(f"\n{line}") + 1
            assert place >= at, f"{path.name}: {line} stands above"
            text = text[:place] + text[place + (len(line) if sign == "-" else 0) :]
            at = place + (0 if sign == "-" else len(line))
        path.write_text(text, encoding="utf-8")
    return new


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which a corpus was read, and with it the knowledge base."""
    folder = copy_checkout(tmp_path_factory.mktemp("base") / "mentionforge")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "workflow"))
        snakemake(folder, "results/corpora/demo_ncbi/mentions.parquet")
    return folder


@pytest.fixture
def copy(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that copy, whose package is the one that its jobs import."""
    folder = tmp_path / "mentionforge"
    shutil.copytree(base, folder, symlinks=True)
    monkeypatch.setenv("PYTHONPATH", str(folder / "workflow"))
    return folder


def run(folder: Path, title: str) -> str:
    """Add an example and run its command with its settings; what Snakemake says."""
    add(folder, title)
    (settings,), (command,) = blocks(title, "yaml"), blocks(title, "sh")
    (folder / "try.yaml").write_text(settings, encoding="utf-8")
    program, *arguments = shlex.split(command)
    assert program == "snakemake"
    return snakemake(folder, "--nocolor", *arguments).stdout


def rows(path: Path) -> list[dict]:
    """The rows of a table."""
    return pq.read_table(path).to_pylist()


def surface_words(text: str) -> frozenset[str]:
    """Words of a name, without case and punctuation."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


# ------------------------------------------------------------------------------------------------------------- the examples


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_one_file_and_one_entry(title: str) -> None:
    """At most 40 lines of code, blank lines and the line that names the file aside; all that is changed stands in one file."""
    files, changes = blocks(title, "python"), blocks(title, "diff")
    assert (len(files), len(changes)) == (int(title != SCORE), 1)
    code = [line for block in files for line in block.splitlines()[1:] if line.strip()]
    added = [line for line in changes[0].splitlines() if line.startswith("+")]
    assert 1 <= len(added) <= 2
    assert len(code) + len(added) <= MOST_LINES, len(code) + len(added)


def test_a_format(copy: Path) -> None:
    """The demo corpus, rewritten with a row per mention, gives the documents and mentions that it gives as PubTator."""
    (copy / "my").mkdir()
    for split in ("train", "test"):
        documents = (ROOT / f"resources/demo/ncbi/{split}.txt").read_text(encoding="utf-8").strip().split("\n\n")
        with open(copy / f"my/{split}.csv", "w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow(["doc_id", "text", "start", "end", "type", "id"])
            for lines in map(str.splitlines, documents):
                (doc_id, _, title), (_, _, abstract) = lines[0].split("|", 2), lines[1].split("|", 2)
                mentions = [line.split("\t") for line in lines[2:]]
                writer.writerows([doc_id, f"{title} {abstract}", m[1], m[2], m[4], m[5]] for m in mentions)
                if not mentions:
                    writer.writerow([doc_id, f"{title} {abstract}", "", "", "", ""])
    run(copy, FORMAT)
    results = copy / "results/corpora"
    for table in ("documents", "mentions"):
        mine, published = rows(results / f"mine/{table}.parquet"), rows(results / f"demo_ncbi/{table}.parquet")
        assert mine == [row for row in published if row["split"] != "dev"] and len(mine) > 20
    convert = [BIN / "mentionforge", "corpora", "convert", "my/test.csv", "--from", "mention_rows", "--to", "jsonl", "--out", "test.jsonl"]
    subprocess.run(convert, cwd=copy, check=True, capture_output=True)
    written = [json.loads(line) for line in (copy / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {d["doc_id"]: len(d["mentions"]) for d in written} == Counter(
        row["doc_id"] for row in rows(results / "mine/mentions.parquet") if row["split"] == "test"
    )


def test_a_source_of_knowledge_bases(copy: Path) -> None:
    """The demo's concepts, rewritten with a row per concept, give its tables, and the demo corpus the CUIs that it had."""
    demo, mine = copy / "results/kb/demo", copy / "results/kb/mine"
    synonyms, codes, definitions = defaultdict(list), defaultdict(list), {}
    for row in rows(demo / "names.parquet"):
        synonyms[row["cui"]].append(row["name"])
    for row in rows(demo / "xrefs.parquet"):
        codes[row["cui"]].append(f"{row['source']}:{row['code']}")
    concepts = rows(demo / "concepts.parquet")
    (copy / "my").mkdir()
    with open(copy / "my/thesaurus.csv", "w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(["cui", "name", "synonyms", "type", "definition", "codes"])
        for c in concepts:
            definitions[c["cui"]] = c["definition"]
            names = "|".join(synonyms[c["cui"]])
            writer.writerow([c["cui"], c["preferred_name"], names, c["semantic_types"][0], c["definition"] or "", "|".join(codes[c["cui"]])])
    before = {m["mention_id"]: (m["cuis"], m["ood_bucket"]) for m in rows(copy / "results/corpora/demo_ncbi/mentions.parquet")}
    run(copy, SOURCE)
    names = {(row["cui"], row["name"]) for row in rows(mine / "names.parquet")}
    assert names == {(cui, name) for cui, many in synonyms.items() for name in many} and len(names) > len(concepts) > 50
    assert [row["preferred_name"] for row in rows(mine / "concepts.parquet")] == [c["preferred_name"] for c in concepts]
    assert {row["cui"]: row["definition"] for row in rows(mine / "definitions.parquet")} == {cui: text for cui, text in definitions.items() if text}
    after = {m["mention_id"]: (m["cuis"], m["ood_bucket"]) for m in rows(copy / "results/corpora/demo_ncbi/mentions.parquet")}
    assert after == before and sum(bool(cuis) for cuis, _ in after.values()) > 100
    assert json.loads((copy / "results/corpora/demo_ncbi/stats.json").read_text())["kb"] == "mine"


def test_a_linker(copy: Path) -> None:
    """A mention's first concept has a name with the largest share of common words; one that shares none with any name is not answered."""
    run(copy, LINKER)
    concepts = defaultdict(set)
    for row in rows(copy / "results/kb/demo/names.parquet"):
        concepts[surface_words(row["name"])].add(row["cui"])
    found = defaultdict(list)
    for row in rows(copy / "results/normalization/demo_ncbi/none/none/words/kb/predictions.parquet"):
        found[row["mention_id"]].append(row)
    asked = [m for m in rows(copy / "results/corpora/demo_ncbi/mentions.parquet") if m["split"] == "test" and m["cuis"]]
    answered = 0
    for mention in asked:
        words = surface_words(mention["surface"])
        shares = {name: len(words & name) / len(words | name) for name in concepts}
        most = max(shares.values())
        if not most:
            assert mention["mention_id"] not in found
            continue
        answered += 1
        first = min(found[mention["mention_id"]], key=lambda row: row["rank"])
        best = set().union(*(concepts[name] for name, share in shares.items() if share == most))
        assert first["cui"] in best and first["score"] == pytest.approx(most, abs=1e-5), mention["surface"]
    assert answered > 100


def test_a_filter(copy: Path) -> None:
    """Of the notes in which something was located, those go whose mentions are more than two fifths of the text, and no others."""
    run(copy, FILTER)
    folder = copy / "results/generation/template"
    inside = Counter()
    for mention in rows(folder / "found/mentions.parquet"):
        inside[mention["note_id"]] += mention["end"] - mention["start"]
    located = {note["note_id"]: note["text"] for note in rows(folder / "found/located.parquet")}
    crowded = {note_id for note_id, text in located.items() if inside[note_id] > 0.4 * len(text)}
    assert 0 < len(crowded) < len(located)
    assert {row["note_id"] for row in rows(folder / "rejected.parquet") if row["reason"] == "crowded"} == crowded
    assert {row["note_id"] for row in rows(folder / "located.parquet")} == set(located) - crowded
    with open(folder / "filters.csv", newline="") as source:
        assert list(csv.DictReader(source)) == [{"filter": "crowded", "in": str(len(located)), "out": str(len(located) - len(crowded))}]
    assert json.loads((folder / "funnel.json").read_text())["rejected_by_reason"]["crowded"] == len(crowded)


def test_a_backend(copy: Path) -> None:
    """Every note is the sentence with the tagged name of its prompt, and is located by that tag; no weights are fetched."""
    said = run(copy, BACKEND)
    assert "fetch" not in said
    folder = copy / "results/generation/smollm2"
    names = {row["cui"]: row["preferred_name"] for row in rows(copy / "results/kb/demo/concepts.parquet")}
    notes = rows(folder / "notes.parquet")
    assert len(notes) == len(rows(folder / "prompts.parquet")) > 50
    assert all(note["text"] == f"Seen today for <1CUI> {names[note['cui']]} </1CUI>." for note in notes)
    assert all(row["text"] == f"Seen today for {names[row['cui']]}." for row in rows(folder / "located.parquet"))
    with open(folder / "throughput.csv", newline="") as source:
        assert {row["backend"] for row in csv.DictReader(source)} == {"echo"}


def test_a_generator(copy: Path) -> None:
    """With its settings given, a note is up to two distinct names of its concept, the preferred one first, and the preferred one is located in it."""
    run(copy, GENERATOR)
    names = defaultdict(set)
    for row in rows(copy / "results/kb/demo/names.parquet"):
        names[row["cui"]].add(row["name"])
    preferred = {row["cui"]: row["preferred_name"] for row in rows(copy / "results/kb/demo/concepts.parquet")}
    notes = rows(copy / "results/generation/synonyms/notes.parquet")
    assert {note["cui"] for note in notes} == set(preferred)
    for note in notes:
        parts = note["text"].split(" / ")
        assert parts[0] == preferred[note["cui"]] and len(set(parts)) == len(parts) == min(2, len(names[note["cui"]])) and set(parts) <= names[note["cui"]]
    located = {(m["note_id"], m["start"]): m["surface"] for m in rows(copy / "results/generation/synonyms/mentions.parquet")}
    assert sum(located.get((note["note_id"], 0)) == preferred[note["cui"]] for note in notes) > 0.9 * len(notes)


def test_a_score(copy: Path) -> None:
    """Mean of 1/rank of the first right concept within rank 10, counted from the predictions: in metrics, in the comparison of two cells, on the page."""
    run(copy, SCORE)
    results = copy / "results"
    right = {m["mention_id"]: set(m["cuis"]) for m in rows(results / "corpora/demo_ncbi/mentions.parquet") if m["split"] == "test" and m["cuis"]}
    expected = {}
    for cell in ("none/none", "names/naive"):
        total, wrong, answered = 0.0, Counter(), set()
        for row in sorted(rows(results / f"normalization/demo_ncbi/{cell}/tfidf/train/predictions.parquet"), key=lambda row: row["rank"]):
            mention = row["mention_id"]
            if row["cui"] not in right[mention]:
                wrong[mention] += 1
            elif mention not in answered:
                answered.add(mention)
                total += 1 / (1 + wrong[mention]) if wrong[mention] < 10 else 0
        expected[cell] = total / len(right)
    assert 0 < expected["none/none"] < expected["names/naive"] < 1
    metrics = [row for row in rows(results / "evaluation/normalization/demo_ncbi.parquet") if row["metric"] == "mrr@10"]
    assert {row["bucket"] for row in metrics} >= {"all", "unseen_concept"}
    overall = {f"{row['generator']}/{row['strategy']}": row for row in metrics if row["bucket"] == "all"}
    assert {cell: row["value"] for cell, row in overall.items()} == pytest.approx(expected) and {row["n"] for row in overall.values()} == {len(right)}
    with open(results / "summary/metrics.csv", newline="") as source:
        assert sum(row["metric"] == "mrr@10" for row in csv.DictReader(source)) == len(metrics)
    compared = [row for path in sorted(results.rglob("comparisons.parquet")) for row in rows(path) if row["metric"] == "mrr@10"]
    [row] = [row for row in compared if row["against"] == "baseline"]
    assert row["difference"] == pytest.approx(expected["names/naive"] - expected["none/none"])
    assert "mrr@10" in (results / "report/index.html").read_text(encoding="utf-8")


def test_all_examples_stand_together(copy: Path) -> None:
    """With all seven in one package, the schema has each kind, each has its version, and the files meet the style of the others."""
    new = [path for title in EXAMPLES for path in add(copy, title)]
    style = [[BIN / "ruff", "check", *new], [BIN / "ruff", "format", "--check", *new]]
    for command in style:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    code = "import json; from mentionforge import versions; from mentionforge.config import json_schema; print(json.dumps([json_schema(), list(versions.VERSIONED_CODE)]))"
    said = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True).stdout
    schema, parts = json.loads(said)
    definitions = json.loads(schema)["$defs"]
    assert "mention_rows" in definitions["Corpus"]["properties"]["reader"]["enum"]
    assert {"ThesaurusKb", "WordsLinker", "Crowded", "EchoBackend", "SynonymsGenerator"} <= set(definitions)
    assert {"kb.thesaurus", "normalization.words", "filter.crowded", "backend.echo", "generation.synonyms"} <= set(parts)
    confirm = subprocess.run([BIN / "mentionforge", "dev", "confirm", "--all"], cwd=copy, capture_output=True, text=True)
    assert confirm.returncode == 0, confirm.stderr
