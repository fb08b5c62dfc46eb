"""Builds the demo data in the folder above, without network: `python resources/demo/build`, `--check` to verify it."""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

sys.dont_write_bytecode = True

from corpora import SPLITS, corpora, load_concepts  # noqa: E402
from umls import COLUMNS, META, read_tsv, release  # noqa: E402

DEMO = Path(__file__).resolve().parents[1]
BUILT = ("umls", "semeval", "ncbi", "bc5cdr")
LIMIT = 1_500_000  # bytes in the demo's folder
Gold = tuple[str, str, list[list[tuple[int, int, str, list[str]]]]]  # name, text, mentions of (start, end, text, CUIs)


def build() -> dict[str, str]:
    """Content of every built file by its path below the demo's folder."""
    return release() | corpora()


def write(files: dict[str, str]) -> None:
    """Write the files and remove built files that are no longer made."""
    for folder in BUILT:
        for path in sorted((DEMO / folder).rglob("*")):
            if path.is_file() and path.relative_to(DEMO).as_posix() not in files:
                path.unlink()
    for name, text in sorted(files.items()):
        path = DEMO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


class Checker:
    """Collects faults and prints figures."""

    def __init__(self, files: dict[str, str]) -> None:
        """Keep the rebuilt files to compare and read."""
        self.files = files
        self.faults: list[str] = []
        self.tables: dict[str, list[dict[str, str]]] = {}
        for name, columns in COLUMNS.items():
            rows = []
            for number, line in enumerate(files[f"{META}/{name}"].splitlines(), 1):
                fields = line.split("|")
                self.expect(len(fields) == len(columns) + 1 and fields[-1] == "", f"{name}:{number}: wrong number of fields")
                rows.append(dict(zip(columns, fields, strict=False)))
            self.tables[name] = rows

    def expect(self, holds: bool, fault: str) -> None:
        """Note the fault unless the condition holds."""
        if not holds:
            self.faults.append(fault)

    def rebuild(self) -> None:
        """Files on disk equal the rebuilt ones, nothing more and nothing less, within the size limit."""
        on_disk = {p.relative_to(DEMO).as_posix() for d in BUILT for p in (DEMO / d).rglob("*") if p.is_file()}
        self.expect(on_disk == set(self.files), f"files differ: {sorted(on_disk ^ set(self.files))[:5]}")
        for name in sorted(on_disk & set(self.files)):
            self.expect((DEMO / name).read_bytes() == self.files[name].encode(), f"{name}: differs from a rebuild")
        size = sum(p.stat().st_size for p in DEMO.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        self.expect(size < LIMIT, f"{size} bytes, more than {LIMIT}")
        print(f"size {size} bytes in {len(on_disk)} built files")

    def knowledge_base(self) -> None:
        """Keys are unique, references resolve, MRFILES counts are true."""
        conso, types, defs = (self.tables[f"{t}.RRF"] for t in ("MRCONSO", "MRSTY", "MRDEF"))
        auis = [r["AUI"] for r in conso]
        self.expect(len(set(auis)) == len(auis), "MRCONSO: an AUI occurs twice")
        atuis = [r["ATUI"] for r in types + defs]
        self.expect(len(set(atuis)) == len(atuis), "an ATUI occurs twice")
        cuis, typed = {r["CUI"] for r in conso}, {r["CUI"] for r in types}
        self.expect(cuis == typed, f"MRCONSO and MRSTY differ in {sorted(cuis ^ typed)[:5]}")
        owner = {r["AUI"]: r["CUI"] for r in conso}
        self.expect(all(owner.get(r["AUI"]) == r["CUI"] for r in defs), "MRDEF: an AUI of another concept")
        ranked = {(r["SAB"], r["TTY"]) for r in self.tables["MRRANK.RRF"]}
        self.expect({(r["SAB"], r["TTY"]) for r in conso} <= ranked, "MRRANK: a term type is missing")
        sabs = {r["RSAB"] for r in self.tables["MRSAB.RRF"]}
        self.expect({r["SAB"] for r in conso + defs} == sabs, "MRSAB: sources differ")
        for r in self.tables["MRCUI.RRF"]:
            gone = r["CUI1"] not in cuis and (r["CUI2"] in cuis or r["REL"] == "DEL")
            self.expect(gone, f"MRCUI: {r['CUI1']} is no retired concept")
        for r in self.tables["MRFILES.RRF"]:
            text = self.files[f"{META}/{r['FIL']}"]
            counts = (str(text.count("\n")), str(len(text.encode())), ",".join(COLUMNS[r["FIL"]]))
            self.expect((r["RWS"], r["BTS"], r["FMT"]) == counts, f"MRFILES: {r['FIL']} is not described truly")
        for name in ("concepts", "names", "features", "drugs", "decoys", "foreign"):
            self.expect(all(None not in row.values() for row in read_tsv(f"{name}.tsv")), f"{name}.tsv: a short row")
        known = load_concepts()
        english = [r for r in conso if r["CUI"] in known and r["LAT"] == "ENG" and r["SUPPRESS"] == "N"]
        defined = {r["CUI"] for r in defs if r["SUPPRESS"] == "N"}
        print(
            f"{len(cuis)} concepts, {len(read_tsv('concepts.tsv'))} disorders, {len(english)} names of these, "
            f"{len(defined)} concepts with a definition, {len(conso)} MRCONSO rows"
        )

    def corpus(self, name: str) -> None:
        """Offsets, completeness and split figures of one corpus."""
        golds = {split: self.gold(name, split) for split in SPLITS}
        scan = scanner(self.tables["MRCONSO.RRF"])
        for split, documents in golds.items():
            for doc, text, mentions in documents:
                covered = [span for spans in mentions for span in spans]
                for start, end, surface, _ in covered:
                    self.expect(text[start:end] == surface, f"{name}/{split} {doc}: {start}-{end} is not {surface!r}")
                    self.expect(not re.match(r"(a|an|the) ", surface, re.I), f"{name}/{split} {doc}: article in {surface!r}")
                    self.expect(text[end : end + 1] not in "s" or text[end : end + 1] == "", f"{doc}: cut {surface!r}")
                for pattern in scan:
                    for hit in pattern.finditer(text):
                        inside = any(s <= hit.start() and hit.end() <= e for s, e, _, _ in covered)
                        self.expect(inside, f"{name}/{split} {doc}: {hit.group()!r} at {hit.start()} is not annotated")
        train = {cui for _, _, mentions in golds["train"] for m in mentions for cui in m[0][3]}
        surfaces = {(cui, " ".join(p[2] for p in m).lower()) for _, _, mentions in golds["train"] for m in mentions for cui in m[0][3]}
        test = [m for _, _, mentions in golds["test"] for m in mentions if m[0][3]]
        unmapped = sum(not m[0][3] for _, _, mentions in golds["test"] for m in mentions)
        seen = [m for m in test if set(m[0][3]) & train]
        fresh = [m for m in seen if not any((c, " ".join(p[2] for p in m).lower()) in surfaces for c in m[0][3])]
        shares = [100 * n / len(test) for n in (len(test) - len(seen), len(seen), len(fresh))]
        self.expect(shares[0] >= 35 and shares[1] >= 35 and shares[2] >= 10, f"{name}: split shares {shares}")
        per_split = {s: (len(d), sum(len(m) for _, _, m in d)) for s, d in golds.items()}
        figures = ", ".join(f"{s} {d} documents {m} mentions ({m / d:.1f})" for s, (d, m) in per_split.items())
        used = {c for d in golds.values() for _, _, mentions in d for m in mentions for c in m[0][3]}
        print(f"{name}: {figures}; {len(used)} concepts; test unseen {shares[0]:.1f} %, seen {shares[1]:.1f} %, "
              f"of it new surface {shares[2]:.1f} %; {unmapped} unmapped")  # fmt: skip

    def gold(self, name: str, split: str) -> list[Gold]:
        """Documents with their disease mentions, read back from the built files."""
        if name == "semeval":
            return [self.note(path) for path in sorted(self.files) if re.match(rf"semeval/{split}/.*\.pipe$", path)]
        codes: dict[str, list[str]] = defaultdict(list)
        for r in self.tables["MRCONSO.RRF"]:
            if r["LAT"] == "ENG" and r["SUPPRESS"] == "N" and r["SAB"] in {"MSH", "OMIM"}:
                key = f"OMIM:{r['CODE']}" if r["SAB"] == "OMIM" else r["CODE"]
                if r["CUI"] not in codes[key]:
                    codes[key].append(r["CUI"])
        documents: list[Gold] = []
        for block in filter(str.strip, self.files[f"{name}/{split}.txt"].split("\n\n")):
            title, abstract, *rows = block.strip("\n").split("\n")
            doc = title.split("|")[0]
            text = f"{title.split('|', 2)[2]} {abstract.split('|', 2)[2]}"
            mentions = []
            for row in (r.split("\t") for r in rows):
                self.expect(row[0] == doc, f"{name}/{split} {doc}: a row of another document")
                if row[1] != "CID" and row[4] != "Chemical":
                    self.expect(row[5] != "", f"{name}/{split} {doc}: {row[3]!r} has no identifier")
                    cuis = [c for i in re.split(r"[|+]", row[5]) for c in codes.get(i, [])]
                    mentions.append([(int(row[1]), int(row[2]), row[3], cuis)])
                elif row[1] != "CID":
                    self.expect(text[int(row[1]) : int(row[2])] == row[3], f"{doc}: chemical {row[3]!r} is elsewhere")
            documents.append((doc, text, mentions))
        return documents

    def note(self, path: str) -> Gold:
        """A note with its disorder mentions."""
        text = self.files[path.removesuffix("pipe") + "text"]
        mentions = []
        for line in self.files[path].splitlines():
            fields = line.split("|")
            self.expect(len(fields) == 20 and fields[-1] == "", f"{path}: not 19 fields")
            spans = [tuple(map(int, s.split("-"))) for s in fields[1].split(",")]
            self.expect(spans == sorted(spans), f"{path}: spans out of order")
            for cue in fields[4:19:2]:
                self.expect(re.fullmatch(r"null|(\d+-\d+)", cue) is not None, f"{path}: bad cue {cue}")
            cuis = [fields[2]] if fields[2] != "CUI-less" else []
            mentions.append([(s, e, text[s:e], cuis) for s, e in spans])
        return path, text, mentions


def scanner(conso: list[dict[str, str]]) -> list[re.Pattern[str]]:
    """Patterns that find every disorder name of the demo release or of the fact tables in a text."""
    disorders = {r["cui"] for r in read_tsv("concepts.tsv")}
    strings = {r["STR"] for r in conso if r["CUI"] in disorders and r["LAT"] == "ENG"}
    strings |= {text for c in load_concepts().values() for _, text in c.forms}
    short = sorted(s for s in strings if len(s) <= 6 and s != s.lower() and s[1:] != s[1:].lower())
    long = sorted(strings - set(short), key=lambda s: (-len(s), s))
    return [re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, group)) + r")(?!\w)", flags) for group, flags in ((long, re.IGNORECASE), (short, 0))]


def check(files: dict[str, str]) -> int:
    """Verify everything; print figures and faults, return the exit status."""
    checker = Checker(files)
    checker.rebuild()
    checker.knowledge_base()
    for name in ("semeval", "ncbi", "bc5cdr"):
        checker.corpus(name)
    for fault in checker.faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if checker.faults else 0


def main() -> int:
    """Write the demo data, or with --check verify what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="verify the files instead of writing them")
    arguments = parser.parse_args()
    files = build()
    if arguments.check:
        return check(files)
    write(files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
