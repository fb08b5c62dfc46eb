"""`mentionforge init`: a first configuration for one's own corpus and knowledge base, from flags or from answers on a terminal."""

import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml

from checkout import ROOT, snakemake

DEMO = ROOT / "resources" / "demo"
OBO = """format-version: 1.2
ontology: own

[Term]
id: OWN:1
name: alpha fever
def: "A fever of the first kind." [OWN:x]
synonym: "fever alpha" EXACT []
xref: UMLS:C0000001
xref: MESH:D000001

[Term]
id: OWN:2
name: beta syndrome
xref: UMLS:C0000002
is_a: OWN:1 ! alpha fever
"""


def init(folder: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mentionforge.cli", "init", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def brat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of the demo's NCBI corpus as BRAT files."""
    folder = tmp_path_factory.mktemp("brat")
    for split in ("train", "dev", "test"):
        command = [sys.executable, "-m", "mentionforge.cli", "corpora", "convert", DEMO / f"ncbi/{split}.txt"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
        subprocess.run([*command, "--from", "pubtator", "--to", "brat", "--out", folder / split], env=environment, check=True, capture_output=True)
    return folder


def planned_jobs(folder: Path, overlay: str) -> Counter[str]:
    """Jobs by rule, as Snakemake's own dry-run counts them."""
    run = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--configfile", overlay]
    text = snakemake(folder, "-n", "--nocolor", "--quiet", "rules", "--cores", "1", *run).stdout
    return Counter({line.split()[0]: int(line.split()[1]) for line in text.splitlines() if re.fullmatch(r"\w+ +\d+", line)})


def test_brat_documents_and_a_umls_release(brat: Path, tmp_path: Path) -> None:
    """The file is short, valid to an independent validator, and runs; jobs are counted as a dry-run counts them; the corpus is read as it is."""
    splits = [item for split in ("train", "dev", "test") for item in (f"--{split}", brat / split)]
    said = init(tmp_path, "--reader", "brat", *splits, "--kb", DEMO / "umls/META").stdout
    text = (tmp_path / "my.yaml").read_text()
    assert len(text.splitlines()) < 40
    assert not list(jsonschema.Draft202012Validator(yaml.safe_load((ROOT / "workflow/schemas/file.schema.json").read_text())).iter_errors(yaml.safe_load(text)))
    jobs = planned_jobs(tmp_path, "my.yaml")
    assert f"would run {jobs['total'] - jobs['all']:,} jobs" in said
    stages = {name: int(number) for number, name in re.findall(r"^ +(\d+)  (\w+)$", said, flags=re.M)}
    assert stages["recognition"] == jobs["recognize_real"] + jobs["recognize_augmented"] and stages["specs"] == jobs["spec"]
    target = "results/mine/corpora/mine/mentions.parquet"
    run = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--configfile", "my.yaml", "--cores", "1"]
    snakemake(tmp_path, target, *run)
    annotated = sum(line.startswith("T") for path in brat.rglob("*.ann") for line in path.read_text().splitlines())
    assert pq.read_metadata(tmp_path / target).num_rows == annotated > 100


def test_an_ontology_and_documents_to_be_split(brat: Path, tmp_path: Path) -> None:
    (tmp_path / "own.obo").write_text(OBO)
    init(tmp_path, "--reader", "brat", "--documents", brat / "train", "--kb", "own.obo", "--results", "out", "--out", "own.yaml")
    written = yaml.safe_load((tmp_path / "own.yaml").read_text())
    assert written["corpora"]["mine"]["seeded_split"]["shares"] == {"train": 0.7, "dev": 0.1, "test": 0.2}
    run = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--configfile", "own.yaml", "--cores", "1"]
    snakemake(tmp_path, "out/kb/mine/concepts.parquet", *run)
    assert pq.read_table(tmp_path / "out/kb/mine/concepts.parquet").column("cui").to_pylist() == ["C0000001", "C0000002"]


def test_models_of_ones_own(tmp_path: Path) -> None:
    """A folder that exists is a path, anything else a name on the hub; the language model is fine-tuned on the corpus."""
    (tmp_path / "encoder").mkdir()
    files = ["--train", DEMO / "ncbi/train.txt", "--test", DEMO / "ncbi/test.txt", "--kb", DEMO / "umls/META"]
    said = init(tmp_path, "--reader", "pubtator", *files, "--llm", "someone/some-model", "--encoder", "encoder").stdout
    written = yaml.safe_load((tmp_path / "my.yaml").read_text())
    assert written["models"] == {"mine_llm": {"hub": "someone/some-model"}, "mine_encoder": {"path": "encoder"}}
    assert written["generators"]["mine_llm"]["finetune"] == {"corpus": "mine"}
    assert written["linkers"] == {"mine": {"kind": "mention", "model": "mine_encoder"}} and re.search(r"^ +2  models$", said, flags=re.M)


def test_a_table_of_concepts_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "terms.csv").write_text("id,name\nMESH:D006073,Gout\n")
    init(tmp_path, "--reader", "pubtator", "--documents", DEMO / "ncbi/test.txt", "--kb", "terms.csv")
    assert yaml.safe_load((tmp_path / "my.yaml").read_text())["kbs"] == {"mine": {"source": "table", "path": "terms.csv"}}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "no --reader, no --kb, no --train or --documents"),
        (["--reader", "brat", "--kb", "gone", "--documents", "x"], "gone"),
        (["--reader", "bratt", "--kb", str(DEMO / "umls/META"), "--documents", "."], "reader"),
        (["--reader", "brat", "--kb", str(DEMO / "umls/META"), "--documents", ".", "--train", "."], "two kinds of splits"),
        (["--reader", "brat", "--kb", str(DEMO / "umls/META"), "--documents", ".", "--out", "there.yaml"], "file exists"),
        (
            ["--reader", "pubtator", "--kb", str(DEMO / "umls/META"), "--documents", str(DEMO / "ncbi/test.txt"), "--out", "no/such/my.yaml"],
            "unusable path in no/such",
        ),
        (["--reader", "pubtator", "--kb", str(DEMO / "umls/META"), "--documents", str(DEMO / "ncbi/test.txt"), "--results", ""], "config: results"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(arguments: list[str], error: str, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("kept")
    done = init(tmp_path, *arguments, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and error in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"] and (tmp_path / "there.yaml").read_text() == "kept"


def test_on_a_terminal_it_asks_for_what_is_missing(tmp_path: Path) -> None:
    """A real pseudo-terminal; empty answers take what the question says."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "mentionforge.cli", "init"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "TERM": "dumb"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    answers = ["pubtator", str(DEMO / "ncbi/train.txt"), str(DEMO / "ncbi/test.txt"), str(DEMO / "umls/META"), "", "", ""]
    os.write(controller, "".join(f"{answer}\n" for answer in answers).encode())
    said = b""
    while True:
        try:
            piece = os.read(controller, 4096)
        except OSError:  # the terminal is closed: the process has ended
            break
        if not piece:
            break
        said += piece
    os.close(controller)
    assert process.wait() == 0, said.decode()
    assert b"Knowledge base" in said and b"my.yaml is valid" in said
    assert yaml.safe_load((tmp_path / "my.yaml").read_text())["corpora"]["mine"]["splits"]["test"] == [str(DEMO / "ncbi/test.txt")]
