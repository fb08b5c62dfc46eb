"""A made-up UMLS release of any size in Rich Release Format, for benchmarks and property tests at scale.

Nothing in it comes from UMLS: words are random syllables. What is like UMLS are the numbers: rows per concept, languages, sources,
suppressed rows, semantic types, lengths, and the characters that break naive readers (quotes, accents, the bar at the end of a row).
"""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

DISORDERS = ("T047", "T033", "T037", "T191", "T046", "T184", "T048", "T019", "T190", "T020", "T049", "T050")
OTHERS = ("T121", "T109", "T116", "T061", "T023", "T002", "T007", "T028", "T059", "T074", "T170", "T195", "T200", "T201")
FMT = {
    "MRCONSO": "CUI,LAT,TS,LUI,STT,SUI,ISPREF,AUI,SAUI,SCUI,SDUI,SAB,TTY,CODE,STR,SRL,SUPPRESS,CVF",
    "MRSTY": "CUI,TUI,STN,STY,ATUI,CVF",
    "MRDEF": "CUI,AUI,ATUI,SATUI,SAB,DEF,SUPPRESS,CVF",
    "MRCUI": "CUI1,VER,REL,RELA,MAPREASON,CUI2,MAPIN",
    "MRRANK": "RANK,SAB,TTY,SUPPRESS",
}


def words(count: int, seed: int) -> list[str]:
    """Random words; one in twenty has an accent, a quote or other trouble in it."""
    draw = random.Random(seed)
    syllables = [c + v + e for c in "bcdfglmnprstv" for v in "aeiou" for e in ("", "n", "r", "s")]
    trouble = ['"{}"', "{}é", "{}'s", '{}"', "ö{}", "{},", "({})", "{} \\", "naïve-{}", "#{}"]
    made = []
    for i in range(count):
        word = "".join(draw.choices(syllables, k=draw.choice((2, 2, 3, 3, 4))))
        made.append(draw.choice(trouble).format(word) if i % 20 == 0 else word)
    return made


def write_release(folder: Path, atoms: int = 17_000_000, seed: int = 1) -> Path:
    """Write MRCONSO, MRSTY, MRDEF, MRCUI, MRRANK, MRFILES and release.dat, as large as a release with so many MRCONSO rows.

    17 million rows come with 4.7 million concepts, 5.2 million semantic types and half a million definitions.
    """
    import duckdb

    folder.mkdir(parents=True, exist_ok=True)
    concepts, definitions, retired = int(atoms * 4.7 / 17), int(atoms * 0.5 / 17), int(atoms * 0.1 / 17)
    with duckdb.connect() as db:
        db.execute(
            f"SET threads = 2; SET memory_limit = '4GB'; SET temp_directory = '{folder}/.tmp'; SET preserve_insertion_order = true; SET enable_progress_bar = false"
        )
        db.execute("CREATE TEMP TABLE v AS SELECT ? AS w", [words(4000, seed)])
        disorders, others = (str(list(x)) for x in (DISORDERS, OTHERS))
        db.execute(
            f"""
            CREATE MACRO draw(i, salt, n) AS (hash(i, salt, {seed}) % n)::INTEGER;
            CREATE MACRO number(i, digits) AS lpad(i::VARCHAR, digits, '0');
            CREATE MACRO cui(c) AS 'C' || number(c, 7);
            -- Atom i belongs to concept i * concepts / atoms or to a neighbour, so that a concept has one to many atoms; its first one stays.
            CREATE MACRO base(i) AS (i * {concepts / atoms})::BIGINT;
            CREATE MACRO owner(i) AS CASE WHEN i = 0 OR base(i) <> base(i - 1) THEN base(i) ELSE greatest(0, base(i) + draw(i, 2, 3) - 1) END;
            CREATE MACRO disorder(c) AS draw(c, 1, 100) < 13;
            CREATE MACRO text(w, i, salt, most) AS
                array_to_string(list_select(w, list_transform(range(1 + draw(i, salt, most)), lambda j: 1 + draw(i, salt + 7 * (j + 1), 4000))), ' ');
            """
        )
        queries = {
            "MRCONSO": f"""
                SELECT cui(c), lat, CASE draw(i, 3, 3) WHEN 0 THEN 'P' ELSE 'S' END, 'L' || number(i, 7), CASE draw(i, 4, 3) WHEN 0 THEN 'VO' ELSE 'PF' END, 'S' || number(i, 8),
                       CASE draw(i, 5, 4) WHEN 0 THEN 'N' ELSE 'Y' END, 'A' || number(i, 8), '', CASE draw(i, 6, 2) WHEN 0 THEN number(draw(i, 16, 99999999), 8) ELSE '' END,
                       CASE draw(i, 17, 3) WHEN 0 THEN 'D' || number(draw(i, 18, 99999), 6) ELSE '' END, sab || CASE WHEN lat <> 'ENG' THEN lat ELSE '' END,
                       ['PT', 'SY', 'MH', 'ET', 'LN', 'PN'][1 + draw(i, 8, 6)], CASE sab WHEN 'MSH' THEN 'D' || number(draw(i, 9, 90000), 6) WHEN 'HPO' THEN 'HP:' || number(draw(i, 9, 20000), 7) ELSE draw(i, 9, 99999999)::VARCHAR END,
                       text(w, i, 100, 7), '0', CASE WHEN draw(i, 10, 100) < 8 THEN ['O', 'E', 'Y'][1 + draw(i, 11, 3)] ELSE 'N' END, CASE draw(i, 12, 3) WHEN 0 THEN '256' ELSE '' END, ''
                FROM (SELECT i, least({concepts} - 1, owner(i)) AS c,
                             CASE WHEN draw(i, 13, 100) < 72 THEN 'ENG' ELSE ['SPA', 'FRE', 'GER', 'JPN', 'RUS', 'DUT'][1 + draw(i, 14, 6)] END AS lat,
                             ['SNOMEDCT_US', 'MSH', 'MEDCIN', 'NCI', 'ICD10CM', 'OMIM', 'HPO', 'MONDO', 'MDR', 'RXNORM'][1 + draw(i, 15, 10)] AS sab
                      FROM (SELECT range AS i FROM range({atoms}))), v ORDER BY i""",
            "MRSTY": f"""
                SELECT cui(c), CASE WHEN disorder(c) THEN {disorders}[1 + (draw(c, 20, 12) + k) % 12] ELSE {others}[1 + (draw(c, 21, 14) + k) % 14] END,
                       'A1.2.3.4', 'A Semantic Type of Forty Characters', 'AT' || number(c, 8), '256', ''
                FROM (SELECT c, unnest(range(CASE WHEN draw(c, 22, 10) = 0 THEN 2 ELSE 1 END)) AS k FROM (SELECT range AS c FROM range({concepts}))) ORDER BY c, k""",
            "MRDEF": f"""
                SELECT cui(least({concepts} - 1, owner(i))), 'A' || number(i, 8), 'AT' || number(d, 8), '', ['MSH', 'NCI', 'HPO', 'SNOMEDCT_US'][1 + draw(d, 30, 4)], text(w, d, 300, 60),
                       CASE draw(d, 31, 50) WHEN 0 THEN 'O' ELSE 'N' END, '', ''
                FROM (SELECT range AS d, (range * {atoms / definitions})::BIGINT AS i FROM range({definitions})), v ORDER BY d""",
            "MRCUI": f"""
                SELECT cui({concepts} + r), '2019AA', ['SY', 'RB', 'RN', 'RO', 'DEL'][1 + draw(r, 40, 5)], '', '', CASE draw(r, 40, 5) WHEN 4 THEN '' ELSE cui(draw(r, 41, {concepts})) END,
                       CASE draw(r, 40, 5) WHEN 4 THEN '' ELSE 'Y' END, '' FROM (SELECT range AS r FROM range({retired})) ORDER BY r""",
            "MRRANK": """
                SELECT number(400 - row_number() OVER (ORDER BY s, t), 4), s, t, 'N', ''
                FROM (SELECT unnest(['MSH', 'SNOMEDCT_US', 'MEDCIN', 'NCI', 'ICD10CM', 'OMIM', 'HPO', 'MONDO', 'MDR', 'RXNORM']) AS s) CROSS JOIN
                     (SELECT unnest(['PT', 'SY', 'MH', 'ET', 'LN', 'PN']) AS t)""",
        }
        declared = []
        for name, query in queries.items():
            file = folder / f"{name}.RRF"
            rows = db.execute(f"COPY ({query}) TO '{file}' (FORMAT csv, DELIMITER '|', HEADER false, QUOTE '', ESCAPE '')").fetchall()[0][0]
            declared.append(f"{file.name}||{FMT[name]}|{FMT[name].count(',') + 1}|{rows}|{file.stat().st_size}|\n")
    (folder / "MRFILES.RRF").write_text("".join(declared))
    (folder / "release.dat").write_text("umls.release.name=MADEUP\n")
    return folder


def zip_release(folder: Path, target: Path) -> Path:
    """Pack a release as the Metathesaurus download does: members below RELEASE/META/."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"2026AA/META/{file.name}")
    return target
