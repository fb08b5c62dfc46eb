"""A made-up SNOMED CT snapshot of any size in Release Format 2, for tests and benchmarks.

Nothing in it comes from SNOMED CT but the numbers of the model itself (is-a, kinds of descriptions, language reference sets, roots), which the format
documents. Words are random syllables. What is like a release: folders and names of files, modules, inactive components, fully specified names with
tags, US and GB preferences, text definitions, attributes, stated and OWL files, Full and Delta beside the snapshot, CRLF, quotation marks.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT, FINDING, DISEASE, PROCEDURE = 138875005, 404684003, 64572001, 71388002
IS_A, SITE = 116680003, 363698007
FSN, SYNONYM, DEFINITION = 900000000000003001, 900000000000013009, 900000000000550004
PREFERRED, ACCEPTABLE = 900000000000548007, 900000000000549004
US, GB, OTHER_REFSET = 900000000000509007, 900000000000508004, 450828004
INFERRED, STATED = 900000000000011006, 900000000000010007
SAME_AS, REPLACED_BY, POSSIBLY = 900000000000527005, 900000000000526001, 900000000000523009
CORE, MODEL, EXTENSION = 900000000000207008, 900000000000012004, 731000124108
OLD, NOW, LATER = 20200131, 20240101, 20240301

HEADS = {
    "Concept": "id effectiveTime active moduleId definitionStatusId",
    "Description": "id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId",
    "Relationship": "id effectiveTime active moduleId sourceId destinationId relationshipGroup typeId characteristicTypeId modifierId",
    "Language": "id effectiveTime active moduleId refsetId referencedComponentId acceptabilityId",
    "Association": "id effectiveTime active moduleId refsetId referencedComponentId targetComponentId",
    "Owl": "id effectiveTime active moduleId refsetId referencedComponentId owlExpression",
}
HEADS["TextDefinition"] = HEADS["Description"]


def write_lines(path: Path, kind: str, rows: Iterable[tuple[object, ...]]) -> None:
    """A file of the release: header, then rows, with CRLF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="", buffering=1 << 20) as handle:
        handle.write("\t".join(HEADS[kind].split()) + "\r\n")
        handle.writelines("\t".join(map(str, row)) + "\r\n" for row in rows)


def sctid(number: int, kind: int, namespace: str = "") -> int:
    """An id as SNOMED CT forms them, with a check digit of 0: item, namespace, partition (0 concept, 1 description, 2 relationship)."""
    return int(f"{number}{namespace}{'1' if namespace else '0'}{kind}0")


def uuid(draw: random.Random) -> str:
    """A random id of a member of a reference set."""
    h = f"{draw.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def write_snapshot(folder: Path, concepts: int = 350_000, seed: int = 1, extension: bool = True) -> Path:
    """Write the files of a release below `folder`; 350,000 active concepts come with 1.5 million descriptions.

    With `extension`, a few files of an extension lie beside those of the international edition: new concepts, and newer versions of components.
    """
    draw = random.Random(seed)
    syllables = [c + v + e for c in "bcdfglmnprstv" for v in "aeiou" for e in ("", "n", "r", "s")]
    words = ["".join(draw.choices(syllables, k=draw.choice((2, 3, 3, 4)))) for _ in range(30_000)]
    words[::50] = [f'"{w}"' if i % 2 else f'{w}"s é' for i, w in enumerate(words[::50])]
    edition, date = folder / "SnomedCT_InternationalRF2_PRODUCTION_20240101T120000Z", f"INT_{NOW}"
    terminology, language = edition / "Snapshot/Terminology", edition / "Snapshot/Refset/Language"

    fixed = {ROOT: "SNOMED CT Concept", FINDING: "Clinical finding", DISEASE: "Disease", PROCEDURE: "Procedure", SITE: "Finding site"}
    active = [*fixed, *(sctid(1_000_000 + i, 0) for i in range(concepts - len(fixed)))]
    inactive = [sctid(5_000_000 + i, 0) for i in range(concepts // 10)]
    below = {FINDING: ROOT, DISEASE: FINDING, PROCEDURE: ROOT, SITE: ROOT}
    tags = {ROOT: "SNOMED RT+CTV3", FINDING: "finding", DISEASE: "disorder", PROCEDURE: "procedure", SITE: "attribute"}
    branches: dict[str, list[int]] = {"disorder": [DISEASE], "finding": [FINDING], "procedure": [PROCEDURE]}
    is_a: list[tuple[int, int]] = list(below.items())
    for concept in active[len(fixed) :]:
        tag = draw.choices(("disorder", "finding", "procedure"), (5, 2, 3))[0]
        tags[concept] = tag
        parents = {draw.choice(branches[tag][-20_000:]) for _ in range(draw.choice((1, 1, 2, 3)))}
        is_a += [(concept, parent) for parent in sorted(parents)]
        branches[tag].append(concept)
    write_lines(
        terminology / f"sct2_Concept_Snapshot_{date}.txt",
        "Concept",
        [
            *((c, OLD, 1, MODEL if c in fixed else CORE, 900000000000074008) for c in active),
            *((c, NOW, 0, CORE, 900000000000074008) for c in inactive),
        ],
    )

    def descriptions() -> Iterable[tuple[int, int, int, int, str, int, str, int]]:
        """Rows without module; the acceptability is 0 for inactive ones."""
        number = 0
        for concept in (*active, *inactive):
            name = fixed.get(concept) or " ".join(draw.choices(words, k=draw.choice((2, 3, 4, 5)))).capitalize()
            rows = [(FSN, f"{name} ({tags.get(concept, 'disorder')})", 1), (SYNONYM, name, 1)]
            rows += [(SYNONYM, " ".join(draw.choices(words, k=3)).capitalize(), draw.choice((1, 1, 1, 0))) for _ in range(draw.choice((1, 2, 2, 3)))]
            for kind, term, is_active in rows:
                number += 1
                yield sctid(1_000_000 + number, 1), NOW, is_active, concept, "en", kind, term, number

    members: list[tuple[object, ...]] = []

    def described() -> Iterable[tuple[object, ...]]:
        last = 0
        for id_, time, is_active, concept, code, kind, term, _ in descriptions():
            first_synonym = kind == SYNONYM and concept != last
            last = concept if kind == SYNONYM else last
            for refset in (US, GB):
                if first_synonym and refset == GB and concept % 7 == 0:
                    continue  # what is preferred in the US is no member in GB
                if not first_synonym and kind == SYNONYM and id_ % 40 < 10 and refset == US:
                    continue
                members.append((is_active, refset, id_, PREFERRED if kind == FSN or first_synonym else ACCEPTABLE))
            yield id_, time, is_active, CORE, concept, code, kind, term, 900000000000448009

    write_lines(terminology / f"sct2_Description_Snapshot-en_{date}.txt", "Description", described())
    defined = [(sctid(9_000_000 + i, 1), c) for i, c in enumerate(active[1::30])]
    write_lines(
        terminology / f"sct2_TextDefinition_Snapshot-en_{date}.txt",
        "TextDefinition",
        [(i, NOW, int(i % 50 < 40), CORE, c, "en", DEFINITION, f'Text of "{c}", a {draw.choice(words)}.', 900000000000448009) for i, c in defined],
    )
    members += [(1, refset, i, PREFERRED) for i, _ in defined for refset in (US, GB)]
    write_lines(
        language / f"der2_cRefset_LanguageSnapshot-en_{date}.txt",
        "Language",
        [*((uuid(draw), NOW, a, CORE, refset, i, kind) for a, refset, i, kind in members), (uuid(draw), NOW, 1, CORE, OTHER_REFSET, members[-1][2], PREFERRED)],
    )

    def relationships() -> Iterable[tuple[object, ...]]:
        for number, (child, parent) in enumerate(is_a):
            yield sctid(1_000_000 + number, 2), OLD, 1, CORE, child, parent, 0, IS_A, INFERRED, 900000000000451002
            if number % 2:
                yield sctid(3_000_000 + number, 2), OLD, int(number % 4 == 1), CORE, child, ROOT, 1, SITE, INFERRED, 900000000000451002
            if number % 5 == 0:  # no longer so, or only stated: a disorder below procedures
                yield sctid(6_000_000 + number, 2), NOW, 0, CORE, child, PROCEDURE, 0, IS_A, INFERRED, 900000000000451002
            if number % 5 == 1:
                yield sctid(8_000_000 + number, 2), NOW, 1, CORE, PROCEDURE, child, 0, IS_A, STATED, 900000000000451002

    write_lines(terminology / f"sct2_Relationship_Snapshot_{date}.txt", "Relationship", relationships())
    trap = [(sctid(1, 2), NOW, 1, CORE, PROCEDURE, FINDING, 0, IS_A, STATED, 900000000000451002)]
    write_lines(terminology / f"sct2_StatedRelationship_Snapshot_{date}.txt", "Relationship", trap)
    write_lines(terminology / f"sct2_RelationshipConcreteValues_Snapshot_{date}.txt", "Relationship", trap)
    owl = [(uuid(draw), NOW, 1, CORE, 733073007, PROCEDURE, f"SubClassOf(:{PROCEDURE} :{FINDING})")]
    write_lines(terminology / f"sct2_sRefset_OWLExpressionSnapshot_{date}.txt", "Owl", owl)
    kinds = (SAME_AS, REPLACED_BY, POSSIBLY)
    associations = [(uuid(draw), NOW, int(i % 9 > 0), CORE, kinds[i % 3], c, active[-1 - i % 50]) for i, c in enumerate(inactive)]
    write_lines(edition / f"Snapshot/Refset/Content/der2_cRefset_AssociationSnapshot_{date}.txt", "Association", associations)
    for other in ("Full", "Delta"):
        write_lines(edition / f"{other}/Terminology/sct2_Relationship_{other}_{date}.txt", "Relationship", trap)
        write_lines(edition / f"{other}/Terminology/sct2_Concept_{other}_{date}.txt", "Concept", [(FINDING, LATER, 0, CORE, 0)])
    if extension:
        _write_extension(folder, active, draw)
    return folder


def _write_extension(folder: Path, active: list[int], draw: random.Random) -> None:
    """An extension beside the edition: one new disorder, a description and a relationship switched off, a concept retired."""
    below, date = folder / "SnomedCT_ManagedServiceXX_PRODUCTION_XX1000124_20240301T120000Z/Snapshot", f"XX1000124_{LATER}"
    new, name, retired = sctid(1, 0, "1000124"), sctid(1, 1, "1000124"), active[-1]
    write_lines(below / f"Terminology/sct2_Concept_Snapshot_{date}.txt", "Concept", [(new, LATER, 1, EXTENSION, 0), (retired, LATER, 0, EXTENSION, 0)])
    rows = [
        (name, LATER, 1, EXTENSION, new, "en", SYNONYM, "Local disorder", 0),
        (name + 10, LATER, 1, EXTENSION, new, "en", FSN, "Local disorder (disorder)", 0),
    ]
    rows += [(sctid(1_000_001 + 2 * 5, 1), LATER, 0, EXTENSION, active[2], "en", SYNONYM, "switched off", 0)]
    write_lines(below / f"Terminology/sct2_Description_Snapshot-en_{date}.txt", "Description", rows)
    write_lines(
        below / f"Terminology/sct2_Relationship_Snapshot_{date}.txt",
        "Relationship",
        [(sctid(1, 2, "1000124"), LATER, 1, EXTENSION, new, DISEASE, 0, IS_A, INFERRED, 0)],
    )
    members = [(uuid(draw), LATER, 1, EXTENSION, US, i, PREFERRED) for i in (name, name + 10)]
    write_lines(below / f"Refset/Language/der2_cRefset_LanguageSnapshot-en_{date}.txt", "Language", members)


def zip_snapshot(folder: Path, target: Path) -> Path:
    """The release as a zip, as downloaded."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())
    return target


if __name__ == "__main__":
    import sys

    write_snapshot(Path(sys.argv[1]), int(sys.argv[2]))
    zip_snapshot(Path(sys.argv[1]), Path(sys.argv[1]).with_suffix(".zip"))
