"""The documentation: links, pages written from the code, lengths, and the examples of configurations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "docs/**/", "config/", "workflow/", "resources/", "resources/demo/**/", "profiles/**/", ".github/**/")
PAGES = sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md") if path.name != "interpretation.md"})
"""All but the text of docs/results.md that is not written by hand there: its links hold for that page."""
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines outside of code blocks."""
    fence = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fence = not fence
        elif not fence:
            yield number, line


def anchors(path: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    found: Counter[str] = Counter()
    names = set()
    for _, line in prose(path):
        if match := re.match(r"#{1,6} +(.*)", line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "")
            name = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    dead = []
    for number, line in prose(page):
        for link in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                dead.append(f"{page.name}:{number}: {link}")
    assert not dead


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Two words\n## `kind: a | b`\n## Two words\n```\n# no heading\n```\n### Slurm, really: `make x`\n")
    assert anchors(tmp_path / "a.md") == {"two-words", "kind-a--b", "two-words-1", "slurm-really-make-x"}


def test_reference_follows_from_the_code(tmp_path: Path) -> None:
    subprocess.run(["mentionforge", "dev", "reference", "--out", tmp_path], cwd=ROOT, check=True)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").iterdir()}, "run `make generated`"


def test_every_key_of_the_configuration_has_a_meaning_and_an_example() -> None:
    page = (ROOT / "docs/reference/config.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    assert not [row[1] for row in rows if not row[4].strip() or not row[5].strip()]


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md") if path.name != "interpretation.md"}
    assert named == pages


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    ended = subprocess.run(
        ["zensical", "build", "--strict", "--config-file", "mkdocs.yml"], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"}
    )
    assert not ended.returncode, ended.stdout + ended.stderr
    assert "mentionforge measures" in (tmp_path / "site/index.html").read_text(encoding="utf-8")
    outside = re.findall(r'(?:src|href)="(https?://[^"]+)"', (tmp_path / "site/first-run.html").read_text(encoding="utf-8"))
    assert not [address for address in outside if re.search(r"\.(js|css|woff2?)$|unpkg|googleapis|jsdelivr", address)]  # works offline


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130


@pytest.mark.parametrize("page", ["README.md", "docs/own-data.md", "docs/first-run.md"])
def test_overlay_of_the_page_is_valid(page: str, tmp_path: Path) -> None:
    [overlay] = re.findall(r"```yaml\n(# my\.yaml.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
    (tmp_path / "my.yaml").write_text(overlay.replace("/data/umls/2026AA/META", str(ROOT / "resources/demo/umls/META")))
    for split in ("train", "dev", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}.txt").write_text("")
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    ended = subprocess.run(["mentionforge", "config", "check", ROOT / "config.yaml", "my.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.startswith("valid: "), ended.stderr


LONGEST_LINE, LONGEST_PARAGRAPH = 120, 6


def paragraphs(page: Path) -> Iterator[tuple[int, list[str]]]:
    """First line and lines of each paragraph and each item of a list; tables, headings, code and HTML are none."""
    begun, lines = 0, []
    for number, line in [*prose(page), (0, "")]:
        item = re.match(r" *([-*]|\d+\.) ", line)
        if (not line.strip() or item or number != begun + len(lines)) and lines:
            yield begun, lines
            lines = []
        if line.strip() and not re.match(r"[|#<]| *!\[|\[!\[|    ", line):
            begun, lines = (number if not lines else begun), [*lines, line]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "reference"], ids=lambda path: str(path.relative_to(ROOT)))
def test_paragraphs_are_short(page: Path) -> None:
    long = [f"{page.name}:{begun}: {len(lines)} lines" for begun, lines in paragraphs(page) if len(lines) > LONGEST_PARAGRAPH]
    numbered = [(begun + i, line) for begun, lines in paragraphs(page) for i, line in enumerate(lines)]
    wide = [
        f"{page.name}:{number}: {len(line)} characters" for number, line in numbered if len(line) > LONGEST_LINE and not re.fullmatch(r" *`[^`]+`[.,]?", line)
    ]
    assert not long + wide
