"""Writes the demo release: META/*.RRF in the layout of a real release, from the fact tables beside this file."""

from __future__ import annotations

import csv
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1]
META = "umls/META"

COLUMNS: dict[str, list[str]] = {
    "MRCOLS.RRF": ["COL", "DES", "REF", "MIN", "AV", "MAX", "FIL", "DTY"],
    "MRCONSO.RRF": [
        "CUI", "LAT", "TS", "LUI", "STT", "SUI", "ISPREF", "AUI", "SAUI", "SCUI", "SDUI", "SAB", "TTY", "CODE", "STR",
        "SRL", "SUPPRESS", "CVF",
    ],
    "MRCUI.RRF": ["CUI1", "VER", "REL", "RELA", "MAPREASON", "CUI2", "MAPIN"],
    "MRDEF.RRF": ["CUI", "AUI", "ATUI", "SATUI", "SAB", "DEF", "SUPPRESS", "CVF"],
    "MRFILES.RRF": ["FIL", "DES", "FMT", "CLS", "RWS", "BTS"],
    "MRRANK.RRF": ["RANK", "SAB", "TTY", "SUPPRESS"],
    "MRSAB.RRF": [
        "VCUI", "RCUI", "VSAB", "RSAB", "SON", "SF", "SVER", "VSTART", "VEND", "IMETA", "RMETA", "SLC", "SCC", "SRL",
        "TFR", "CFR", "CXTY", "TTYL", "ATNL", "LAT", "CENC", "CURVER", "SABIN", "SSN", "SCIT",
    ],
    "MRSTY.RRF": ["CUI", "TUI", "STN", "STY", "ATUI", "CVF"],
}  # fmt: skip

FILE_NOTES = {
    "MRCOLS.RRF": "Attribute Relation",
    "MRCONSO.RRF": "Concept names and sources",
    "MRCUI.RRF": "CUI History",
    "MRDEF.RRF": "Definitions",
    "MRFILES.RRF": "Relation Relation",
    "MRRANK.RRF": "Concept Name Ranking",
    "MRSAB.RRF": "Source Metadata",
    "MRSTY.RRF": "Semantic Types",
}

COLUMN_NOTES = {
    "ATNL": "Attribute name list for a source",
    "ATUI": "Unique identifier for attribute",
    "AUI": "Unique identifier for atom",
    "AV": "Average length, characters",
    "BTS": "Size in bytes",
    "CENC": "Character encoding of a source",
    "CFR": "CUI frequency for a source",
    "CLS": "Number of columns",
    "CODE": "Unique identifier or code for a string in its source",
    "COL": "Column or data element name",
    "CUI": "Unique identifier for concept",
    "CUI1": "Unique identifier for first concept",
    "CUI2": "Unique identifier for second concept",
    "CURVER": "Current version flag",
    "CVF": "Content view flag",
    "CXTY": "Context type for a source",
    "DEF": "Definition",
    "DES": "Descriptive name",
    "DTY": "SQL-92 data type for this column",
    "FIL": "Physical file name",
    "FMT": "Comma-separated list of columns",
    "IMETA": "Version of the release in which the source first appeared",
    "ISPREF": "Indicates whether the atom is preferred",
    "LAT": "Language of term",
    "LUI": "Unique identifier for term",
    "MAPIN": "Mapping in current subset",
    "MAPREASON": "Reason for mapping",
    "MAX": "Maximum length, characters",
    "MIN": "Minimum length, characters",
    "RANK": "Termgroup ranking",
    "RCUI": "Unique identifier for root source concept",
    "REF": "Documentation section number",
    "REL": "Relationship label",
    "RELA": "Additional relationship label",
    "RMETA": "Version of the release in which the source last appeared",
    "RSAB": "Root source abbreviation",
    "RWS": "Number of rows",
    "SAB": "Source abbreviation",
    "SABIN": "Source in current subset",
    "SATUI": "Source asserted attribute identifier",
    "SAUI": "Source asserted atom identifier",
    "SCC": "Source content contact",
    "SCIT": "Source citation",
    "SCUI": "Source asserted concept identifier",
    "SDUI": "Source asserted descriptor identifier",
    "SF": "Source family",
    "SLC": "Source license contact",
    "SON": "Source official name",
    "SRL": "Source restriction level",
    "SSN": "Source short name",
    "STN": "Semantic type tree number",
    "STR": "String",
    "STT": "String type",
    "STY": "Semantic type",
    "SUI": "Unique identifier for string",
    "SUPPRESS": "Suppressible flag",
    "SVER": "Source version",
    "TFR": "Term frequency for a source",
    "TS": "Term status",
    "TTY": "Term type in source",
    "TTYL": "Term type list for a source",
    "TUI": "Unique identifier of semantic type",
    "VCUI": "Unique identifier for versioned source concept",
    "VEND": "Valid end date for a source",
    "VER": "Last release version in which CUI1 was valid",
    "VSAB": "Versioned source abbreviation",
    "VSTART": "Valid start date for a source",
}

SEMANTIC_TYPES = {
    "T019": ("A1.2.2.1", "Congenital Abnormality"),
    "T020": ("A1.2.2.2", "Acquired Abnormality"),
    "T023": ("A1.2.3.1", "Body Part, Organ, or Organ Component"),
    "T028": ("A1.2.3.5", "Gene or Genome"),
    "T033": ("A2.2", "Finding"),
    "T037": ("B2.3", "Injury or Poisoning"),
    "T046": ("B2.2.1.2", "Pathologic Function"),
    "T047": ("B2.2.1.2.1", "Disease or Syndrome"),
    "T048": ("B2.2.1.2.1.1", "Mental or Behavioral Dysfunction"),
    "T049": ("B2.2.1.2.2", "Cell or Molecular Dysfunction"),
    "T050": ("B2.2.1.2.3", "Experimental Model of Disease"),
    "T060": ("B1.3.1.2", "Diagnostic Procedure"),
    "T061": ("B1.3.1.3", "Therapeutic or Preventive Procedure"),
    "T121": ("A1.4.1.1.1", "Pharmacologic Substance"),
    "T184": ("A2.2.2", "Sign or Symptom"),
    "T190": ("A1.2.2", "Anatomical Abnormality"),
    "T191": ("B2.2.1.2.1.2", "Neoplastic Process"),
}

# Best first, as in MRRANK; the last column is the termgroup's default suppressibility.
RANKING = [
    ("MTH", "PN", "N"), ("MSH", "MH", "N"), ("OMIM", "PT", "N"), ("NCI", "PT", "N"), ("HPO", "PT", "N"),
    ("MONDO", "PT", "N"), ("MSH", "ET", "N"), ("MSH", "PM", "N"), ("NCI", "SY", "N"), ("HPO", "SY", "N"),
    ("MTH", "SY", "N"), ("OMIM", "PTAV", "N"), ("OMIM", "ACR", "N"), ("NCI", "AB", "N"), ("MSH", "DEV", "Y"),
    ("HPO", "OP", "N"), ("NCI", "OP", "Y"), ("MSHSPA", "MH", "N"), ("MSHFRE", "MH", "N"), ("MSHGER", "MH", "N"),
    ("MSHSPA", "ET", "N"), ("MSHFRE", "ET", "N"), ("MSHGER", "ET", "N"),
]  # fmt: skip

SOURCES = [
    ("DEMO", "Definitions of the demo release, in the project's own words", "ENG"),
    ("HPO", "Human Phenotype Ontology", "ENG"),
    ("MONDO", "Mondo Disease Ontology", "ENG"),
    ("MSH", "Medical Subject Headings", "ENG"),
    ("MSHFRE", "Medical Subject Headings, French names", "FRE"),
    ("MSHGER", "Medical Subject Headings, German names", "GER"),
    ("MSHSPA", "Medical Subject Headings, Spanish names", "SPA"),
    ("MTH", "Metathesaurus names", "ENG"),
    ("NCI", "NCI Thesaurus", "ENG"),
    ("OMIM", "Online Mendelian Inheritance in Man", "ENG"),
]

# (retired CUI, relation, successor): synonyms are merges; DEL has no successor.
RETIRED = [
    ("C0011847", "RO", "C0011860"), ("C0013384R", "SY", "C0013384"), ("C0018099R", "SY", "C0018099"),
    ("C0020538R", "SY", "C0020538"), ("C0027051R", "SY", "C0027051"), ("C0038454R", "SY", "C0038454"),
    ("C0013264R", "SY", "C0013264"), ("C0024141R", "RB", "C0024141"), ("C0004096R", "RN", "C0004096"),
    ("C0006142R", "SY", "C0678222"), ("DEL1", "DEL", ""), ("DEL2", "DEL", ""), ("DEL3", "DEL", ""),
]  # fmt: skip

SUPPRESSED = [
    ("C0018099", "MSH", "DEV", "D006073", "GOUT DIS", "Y"),
    ("C0027051", "MSH", "DEV", "D009203", "MYOCARDIAL INFARCT", "Y"),
    ("C0010674", "MSH", "DEV", "D003550", "CYSTIC FIBROS", "Y"),
    ("C0013264", "OMIM", "PTAV", "310200", "MUSCULAR DYSTROPHY, PSEUDOHYPERTROPHIC PROGRESSIVE", "O"),
    ("C0026769", "HPO", "OP", "NOCODE", "obsolete sclerosis, insular", "O"),
    ("C0030567", "NCI", "OP", "C26845", "Shaking palsy, retired", "O"),
    ("C0032285", "NCI", "OP", "C3333", "Pneumonitis, old term", "E"),
    ("C0036572", "HPO", "OP", "HP:0001250", "obsolete convulsion finding", "E"),
    ("C0009443", "MSH", "DEV", "D003139", "COMMON COLD", "Y"),
    ("C0009443", "NCI", "OP", "NOCODE", "Acute coryza", "O"),
]
ONLY_SUPPRESSED = [("C0009443", "T047")]


def read_tsv(name: str) -> list[dict[str, str]]:
    """Rows of a fact table in this folder, quoting untouched."""
    with (DEMO / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def preferred_first(rows: list[tuple[str, ...]]) -> int:
    """Index of the best atom of one concept, English before others, by MRRANK and then in the order of rows."""
    order = {(sab, tty): rank for rank, (sab, tty, _) in enumerate(RANKING)}

    def key(index: int) -> tuple[bool, bool, int]:
        lat, sab, tty, _, _, suppress = rows[index]
        return suppress != "N", lat != "ENG", order[(sab, tty)]

    return min(range(len(rows)), key=key)


def release() -> dict[str, str]:
    """All files of the demo release, path below the demo folder to content."""
    concepts, decoys = read_tsv("concepts.tsv"), read_tsv("decoys.tsv")
    atoms: dict[str, list[tuple[str, ...]]] = {}  # CUI to (LAT, SAB, TTY, CODE, STR, SUPPRESS)
    for row in read_tsv("names.tsv"):
        atoms.setdefault(row["cui"], []).append(("ENG", row["sab"], row["tty"], row["code"], row["name"], "N"))
    for row in decoys:
        mesh = row["mesh"]
        source = ("MSH", "MH", mesh) if mesh else ("MTH", "PN", "NOCODE")
        first = ("ENG", *source, row["name"], "N")
        atoms[row["cui"]] = [first]
        if row["synonym"]:
            atoms[row["cui"]].append(("ENG", "MTH", "SY", "NOCODE", row["synonym"], "N"))
    kept = set(atoms)
    for row in read_tsv("foreign.tsv"):
        atoms.setdefault(row["cui"], []).append((row["lat"], row["sab"], row["tty"], row["code"], row["name"], "N"))
    for cui, *rest in SUPPRESSED:
        atoms.setdefault(cui, []).append(("ENG", *rest))
    types = {row["cui"]: row["tuis"].split(";") for row in concepts}
    types |= {row["cui"]: [row["tui"]] for row in decoys}
    types |= {cui: [tui] for cui, tui in ONLY_SUPPRESSED}
    types |= {cui: ["T047"] for cui in atoms if cui not in types}
    assert kept <= set(types)

    luis: dict[tuple[str, str], str] = {}
    suis: dict[tuple[str, str], str] = {}
    conso: list[list[str]] = []
    first_aui: dict[str, str] = {}
    for cui in sorted(atoms):
        rows = sorted(atoms[cui], key=lambda r: (r[0], r[4].lower(), r[4], r[1], r[2]))
        best = preferred_first(rows)
        best_lui = rows[best][4].lower()
        for index, (lat, sab, tty, code, name, suppress) in enumerate(rows):
            lui = luis.setdefault((lat, name.lower()), f"L{9000001 + len(luis):07d}")
            sui = suis.setdefault((lat, name), f"S{9000001 + len(suis):07d}")
            aui = f"A{90000001 + len(conso):08d}"
            status = "P" if lat == "ENG" and name.lower() == best_lui else "S"
            if lat != "ENG":
                status = "P" if tty == "MH" else "S"
            string_type = "PF" if index == best or lat != "ENG" or status == "S" else "VO"
            scui = code if sab in {"NCI", "HPO", "MONDO"} else ""
            sdui = code if sab.startswith("MSH") else ""
            conso.append([
                cui, lat, status, lui, string_type, sui, "Y" if index == best or lat != "ENG" else "N", aui, "", scui,
                sdui, sab, tty, code, name, "3" if sab.startswith("MSH") and sab != "MSH" else "0", suppress, "",
            ])  # fmt: skip
            if suppress == "N":
                first_aui.setdefault(cui, aui)

    definitions: list[list[str]] = []
    styles: list[list[str]] = []
    number = 90000001
    for cui in sorted(types):
        for tui in types[cui]:
            tree, label = SEMANTIC_TYPES[tui]
            styles.append([cui, tui, tree, label, f"AT{number:08d}", ""])
            number += 1
    for row in sorted(concepts, key=lambda r: r["cui"]):
        for text in filter(None, row["definitions"].split("//")):
            definitions.append([row["cui"], first_aui[row["cui"]], f"AT{number:08d}", "", "DEMO", text, "N", ""])
            number += 1
    definitions.append([
        "C0020676", first_aui["C0020676"], f"AT{number:08d}", "", "DEMO",
        "An older wording that the demo release keeps only as suppressed.", "O", "",
    ])  # fmt: skip
    definitions.sort(key=lambda r: r[0])

    history: list[list[str]] = []
    taken = set(atoms)
    for index, (old, rel, new) in enumerate(RETIRED):
        invented = f"C97{index + 1:05d}"
        old = old if old[1:].isdigit() and old not in taken else invented
        history.append([old, "2019AA", rel, "", "", new, "Y" if new else ""])
    history.sort()

    ranks = [[f"{len(RANKING) - i:04d}", sab, tty, sup] for i, (sab, tty, sup) in enumerate(RANKING)]
    sabs: list[list[str]] = []
    for index, (sab, title, lat) in enumerate(SOURCES):
        mine = [r for r in conso if r[11] == sab]
        values = dict.fromkeys(COLUMNS["MRSAB.RRF"], "") | {
            "VCUI": f"C98{2 * index + 1:05d}", "RCUI": f"C98{2 * index + 2:05d}", "VSAB": f"{sab}_DEMO", "RSAB": sab,
            "SON": title, "SF": "MSH" if sab.startswith("MSH") else sab, "SVER": "DEMO", "IMETA": "2026AA", "SRL": "0",
            "TFR": str(len({r[3] for r in mine}) or ""), "CFR": str(len({r[0] for r in mine}) or ""),
            "TTYL": ",".join(sorted({r[12] for r in mine})), "LAT": lat, "CENC": "UTF-8", "CURVER": "Y", "SABIN": "Y",
            "SSN": title, "SCIT": "Demo data of this project; see README.md.",
        }  # fmt: skip
        if not mine:
            values["TFR"] = values["CFR"] = ""
        sabs.append([values[c] for c in COLUMNS["MRSAB.RRF"]])

    tables = {
        "MRCONSO.RRF": conso, "MRCUI.RRF": history, "MRDEF.RRF": definitions, "MRRANK.RRF": ranks, "MRSAB.RRF": sabs,
        "MRSTY.RRF": sorted(styles),
    }  # fmt: skip
    return {f"{META}/{name}": text for name, text in sorted(with_self_description(tables).items())}


def render(rows: list[list[str]]) -> str:
    """RRF text: pipe-delimited with a trailing pipe, one row per line, nothing quoted."""
    assert not any("|" in field or "\n" in field for row in rows for field in row)
    return "".join("|".join(row) + "|\n" for row in rows)


def with_self_description(tables: dict[str, list[list[str]]]) -> dict[str, str]:
    """Texts of the tables plus MRFILES and MRCOLS, whose rows describe themselves, iterated to a fixed point."""
    names = sorted(COLUMNS)
    texts = {name: render(rows) for name, rows in tables.items()}
    rows_of = dict(tables)
    rows_of["MRFILES.RRF"] = rows_of["MRCOLS.RRF"] = []
    texts["MRFILES.RRF"] = texts["MRCOLS.RRF"] = ""
    while True:
        before = dict(texts)
        rows_of["MRFILES.RRF"] = [
            [
                name, FILE_NOTES[name], ",".join(COLUMNS[name]), str(len(COLUMNS[name])), str(texts[name].count("\n")),
                str(len(texts[name].encode("utf-8"))),
            ]
            for name in names
        ]  # fmt: skip
        texts["MRFILES.RRF"] = render(rows_of["MRFILES.RRF"])
        rows_of["MRCOLS.RRF"] = sorted(column_row(name, i, rows_of[name]) for name in names for i in range(len(COLUMNS[name])))
        texts["MRCOLS.RRF"] = render(rows_of["MRCOLS.RRF"])
        if texts == before:
            return texts


def column_row(name: str, index: int, rows: list[list[str]]) -> list[str]:
    """The MRCOLS row of one column: lengths in characters over the rows of its file."""
    column = COLUMNS[name][index]
    lengths = [len(row[index]) for row in rows] or [0]
    kind = f"{'char' if min(lengths) == max(lengths) else 'varchar'}({max(max(lengths), 1)})"
    if column == "AV":
        kind = "numeric(12,2)"
    elif column in {"BTS", "CLS", "RWS", "MIN", "MAX", "RANK"}:
        kind = "integer"
    average = f"{sum(lengths) / len(lengths):.2f}"
    return [column, COLUMN_NOTES[column], "", str(min(lengths)), average, str(max(lengths)), name, kind]
