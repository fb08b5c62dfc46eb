"""The workflow as a module of another workflow, and in the layout of the Snakemake workflow catalog."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from checkout import BIN, ROOT, copy_checkout, snakemake

OUTER = """
configfile: "outer.yaml"

module forge:
    snakefile: {snakefile}
    config: config["forge"]

use rule * from forge as forge_*

rule count:
    input: "made/kb/demo/concepts.parquet"
    output: "count.txt"
    shell: "python -c 'import pyarrow.parquet as table; print(table.read_metadata(\\"{{input}}\\").num_rows)' > {{output}}"
"""


def outer(folder: Path, snakefile: str, config: dict) -> Path:
    """Another workflow, which takes ours as a module with prefixed names of rules, and reads one of its files."""
    folder.mkdir()
    (folder / "Snakefile").write_text(OUTER.format(snakefile=snakefile))
    (folder / "outer.yaml").write_text(yaml.safe_dump({"other": 1, "forge": config}))
    return folder


def concepts_of_the_demo() -> int:
    """Concepts of the demo's release with an English name and a semantic type of the group Disorders, counted without the program."""
    disorders = {"T019", "T020", "T033", "T037", "T046", "T047", "T048", "T049", "T050", "T184", "T190", "T191"}
    atoms, types = ([line.split("|") for line in (ROOT / f"resources/demo/umls/META/{name}.RRF").read_text().splitlines()] for name in ("MRCONSO", "MRSTY"))
    return len({row[0] for row in types if row[1] in disorders} & {row[0] for row in atoms if row[1] == "ENG" and row[16] == "N"})


def test_another_workflow_takes_this_one_as_a_module(tmp_path: Path) -> None:
    """Its configuration is an overlay, as a file of --configfile is; results lie where it says; its own rules read them."""
    folder = outer(tmp_path / "outer", f'"{ROOT}/workflow/Snakefile"', {"results": "made"})
    snakemake(folder, "count", "--cores", "1")
    assert int((folder / "count.txt").read_text()) == concepts_of_the_demo()
    assert not (folder / "results").exists()
    again = snakemake(folder, "count", "--cores", "1", "-n", "--nocolor").stdout
    assert "Nothing to be done" in again
    # All of it: the same jobs as those of the workflow itself, under other names.
    module, own = (
        snakemake(place, target, "-n", "--nocolor", "--quiet", "rules", "--cores", "1").stdout
        for place, target in ((folder, "forge_all"), (copy_checkout(tmp_path / "own"), "all"))
    )
    counted, expected = (dict(line.split() for line in text.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit()) for text in (module, own))
    assert int(expected["total"]) > 100
    done = {"count", "forge_spec", "forge_kb_extract"}  # written by the first run; count is the outer workflow's
    assert {name: n for name, n in counted.items() if name not in {*done, "total", "forge_fetch_model"}} == {
        f"forge_{name}": n for name, n in expected.items() if name not in {"total", "spec", "kb_extract", "fetch_model"}
    }


@pytest.mark.parametrize(
    ("config", "prefix", "error"),
    [
        ({"results": "made", "linkerz": {}}, "", "linkerz"),
        ({"results": "made"}, '    prefix: "there"\n', "set `results` in its config instead"),
    ],
    ids=["unknown key", "prefix"],
)
def test_what_a_module_cannot_take_is_one_line(config: dict, prefix: str, error: str, tmp_path: Path) -> None:
    folder = outer(tmp_path / "outer", f'"{ROOT}/workflow/Snakefile"\n{prefix.rstrip()}', config)
    done = snakemake(folder, "count", "-n", "--nocolor", "--cores", "1", check=False)
    assert done.returncode != 0 and error in done.stdout and "Traceback" not in done.stdout


def test_a_module_from_a_repository(tmp_path: Path) -> None:
    """As `github(…)`, but of a repository on this disk: there is no folder of the workflow, and the installed package is used."""
    repository = copy_checkout(tmp_path / "repository")
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "Snakefile", "config.yaml", "workflow", "envs"], ["commit", "-qm", "all"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    shutil.copytree(ROOT / "resources/demo/umls", tmp_path / "umls")
    folder = outer(
        tmp_path / "outer",
        f'gitfile("{repository}", path="workflow/Snakefile", tag="v1")',
        {"results": "made", "kbs": {"demo": {"path": str(tmp_path / "umls/META")}}},
    )
    snakemake(folder, "count", "--cores", "1")
    assert int((folder / "count.txt").read_text()) == concepts_of_the_demo()


def test_the_layout_of_the_catalog() -> None:
    """What snakemake/snakemake-workflow-catalog asks of workflows with standardized usage."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"} and set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda", "report"}
    assert (ROOT / "workflow/Snakefile").is_file() and list((ROOT / "workflow/rules").glob("*.smk")) and (ROOT / "config/README.md").is_file()
    words = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in words and "workflow" in words
    # snakedeploy copies config/ and writes a Snakefile that reads config/config.yaml.
    assert yaml.safe_load((ROOT / "config/config.yaml").read_text()) == {"results": "results"}


def test_both_snakefiles_plan_the_same(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "checkout")
    jobs = [snakemake(folder, "-n", "--nocolor", "--quiet", "rules", *more).stdout for more in ((), ("--snakefile", "workflow/Snakefile"))]
    tables = [[line for line in text.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit()] for text in jobs]
    assert tables[0] == tables[1] and len(tables[0]) > 20
    assert (BIN / "snakemake").is_file()
