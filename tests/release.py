"""The demo's UMLS release with further concepts: those that subsets of public corpora are annotated with."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "resources" / "demo" / "umls" / "META"


def pubtator_subset(source: Path, target: Path, documents: int) -> Path:
    """The first documents of a PubTator file."""
    blocks = [block.strip() for block in source.read_text(encoding="utf-8").split("\n\n")]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{block}\n\n" for block in blocks[:documents] if block), encoding="utf-8")
    return target


def codes(files: Iterable[Path], types: tuple[str, ...] = ()) -> dict[tuple[str, str], list[str]]:
    """Surface forms of each (vocabulary, code) in PubTator files, in order of appearance; a code without a prefix is MeSH's."""
    found: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            parts = line.split("\t")
            if len(parts) < 6 or (types and parts[4] not in types):
                continue
            for code in re.split(r"[|+]", parts[5]):
                sab, _, rest = code.rpartition(":")
                if rest and rest != "-1":
                    found[sab or "MSH", rest][" ".join(parts[3].split())] = None
    return {key: list(names) for key, names in found.items()}


def write_release(folder: Path, wanted: dict[tuple[str, str], list[str]]) -> Path:
    """Write a META folder: the demo's rows, and a concept with a definition for each wanted code that the demo lacks."""
    folder.mkdir(parents=True)
    for name in ("MRCONSO", "MRSTY", "MRDEF", "MRCUI", "MRRANK", "MRSAB"):
        shutil.copy(DEMO / f"{name}.RRF", folder)
    known = {(row[11], row[13]) for row in (line.split("|") for line in (DEMO / "MRCONSO.RRF").read_text(encoding="utf-8").splitlines())}
    rows: dict[str, list[str]] = {"MRCONSO": [], "MRSTY": [], "MRDEF": []}
    atom = 0
    for i, ((sab, code), names) in enumerate(sorted(wanted.items())):
        if (sab, code) in known:
            continue
        cui = f"C95{i:05}"
        for j, name in enumerate(names):
            atom += 1
            term = "PT" if sab == "OMIM" else "MH" if j == 0 else "ET"
            rows["MRCONSO"].append(
                f"{cui}|ENG|{'P' if j == 0 else 'S'}|L95{atom:05}|PF|S95{atom:05}|Y|A95{atom:06}|||{code}|{sab}|{term}|{code}|{name.replace('|', ' ')}|0|N||"
            )
        rows["MRSTY"].append(f"{cui}|T047|B2.2.1.2.1|Disease or Syndrome|AT95{i:06}||")
        rows["MRDEF"].append(f"{cui}|A95{atom:06}|AT96{i:06}||DEMO|A condition that a public corpus speaks of, entry {i} of this list.|N||")
    for name, more in rows.items():
        with open(folder / f"{name}.RRF", "a", encoding="utf-8") as sink:
            sink.write("".join(f"{row}\n" for row in more))
    declared = []
    for line in (DEMO / "MRFILES.RRF").read_text(encoding="utf-8").splitlines():
        parts = line.split("|")
        path = folder / parts[0]
        if path.is_file():
            data = path.read_bytes()
            declared.append("|".join([*parts[:4], str(data.count(b"\n")), str(len(data)), ""]))
    (folder / "MRFILES.RRF").write_text("".join(f"{line}\n" for line in declared), encoding="utf-8")
    return folder
