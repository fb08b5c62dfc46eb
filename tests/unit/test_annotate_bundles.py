"""Bundles that were changed by hand: one line, whether their digests are those of the change or not."""

import copy
import dataclasses
import io
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import annotating
from annotating import CELL, TESTS
from mentionforge.annotate import bundle, cells
from mentionforge.annotate.pipeline import Annotator
from mentionforge.errors import UserError
from mentionforge.provenance import sha256_file


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return annotating.make(tmp_path_factory.mktemp("results"))


@pytest.fixture
def packed(results: Path, tmp_path: Path) -> Path:
    bundle.write(cells.find(results / CELL, linker="tfidf/coded"), tmp_path / "b")
    return tmp_path / "b"


def sealed(folder: Path, **changed: Any) -> None:
    """Digests of the files as they are now: what someone leaves who knows how."""
    manifest = json.loads((folder / "bundle.json").read_text()) | changed
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in ("bundle.json", "SHA256SUMS.txt")]
    manifest["files"] = {p.relative_to(folder).as_posix(): sha256_file(p) for p in files} if "files" not in changed else changed["files"]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    (folder / "SHA256SUMS.txt").write_text(f"{sha256_file(folder / 'bundle.json')}  bundle.json\n")


def outcome(folder: Path) -> str:
    """`read`, or the one line; anything else is a failure."""
    try:
        list(Annotator(bundle.read(folder)).annotate(TESTS))
    except UserError as error:
        assert "\n" not in str(error) and error.fix
        return str(error)
    return "read"


def test_any_byte_of_the_manifest_counts(packed: Path) -> None:
    whole = (packed / "bundle.json").read_bytes()
    rng = random.Random(5)
    changes: list[bytes] = [whole + b"\n", whole[:-1], b" " + whole, b"", whole.replace(b'"nil_threshold"', b'"nil_treshold"')]
    for at in range(0, len(whole), 41):
        changes.append(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
    for content in changes:
        (packed / "bundle.json").write_bytes(content)
        with pytest.raises(UserError, match=r"damaged bundle.*bundle\.json is not as SHA256SUMS\.txt says"):
            bundle.read(packed)
    (packed / "bundle.json").write_bytes(whole)
    bundle.read(packed)
    (packed / "SHA256SUMS.txt").unlink()
    with pytest.raises(UserError, match=r"SHA256SUMS\.txt is missing"):
        bundle.read(packed)


def test_the_sums_are_those_of_the_usual_tool(packed: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS.txt"], cwd=packed, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "bundle.json: OK\n"


def test_a_bundle_of_the_format_before_is_read_with_a_word(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((packed / "bundle.json").read_text())
    (packed / "bundle.json").write_text(json.dumps(manifest | {"format": 1}))
    (packed / "SHA256SUMS.txt").unlink()
    assert bundle.read(packed).nil_threshold == manifest["nil_threshold"]
    assert "written by an older version" in capsys.readouterr().err
    for number in (0, 3, "2", None, True, 1.5, [1]):
        (packed / "bundle.json").write_text(json.dumps(manifest | {"format": number}))
        with pytest.raises(UserError, match="unknown format"):
            bundle.read(packed)


ODD: list[Any] = [None, "", "x", -1, 0, 3, 2.5, True, [], {}, [None], ["x"], [[]], {"x": 1}, {"kind": "exact"}, "0" * 64, 10**400, float("nan"), float("inf")]


def test_any_setting_of_the_manifest_is_refused_or_read(packed: Path) -> None:
    """Every key, at every depth but the card's: taken away, and put to every kind of value, with digests that fit."""
    whole = json.loads((packed / "bundle.json").read_text())

    def keys(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return [path, *(k for key, value in inner if (*path, key)[:2] not in {("files", key)} or path for k in keys(value, (*path, key)))]

    paths = [p for p in keys(whole) if p and p[0] not in ("card", "files")] + [("card",), ("files",)]
    assert len(paths) > 30
    needed = {("dtype",), ("hybrid",), ("weights",), ("nil_threshold",), ("spell_out",), ("licensed",), ("card",), ("linkers",), ("linkers", 0, "sources")}
    refused = 0
    rng = random.Random(1)
    for path in paths:
        for value in ["gone", *rng.sample(ODD, 6)]:
            manifest = copy.deepcopy(whole)
            node = manifest
            for part in path[:-1]:
                node = node[part]
            if value == "gone":
                del node[path[-1]]
            else:
                node[path[-1]] = value
            (packed / "bundle.json").write_text(json.dumps(manifest))
            (packed / "SHA256SUMS.txt").write_text(f"{sha256_file(packed / 'bundle.json')}  bundle.json\n")
            said = outcome(packed)
            refused += said != "read"
            assert value != "gone" or path not in needed or "damaged bundle" in said, (path, said)
    assert refused > 100


def array(content: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, content, allow_pickle=content.dtype == object)
    return out.getvalue()


def weights_of(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "linkers/0/weights.npy"
        path.write_bytes(array(change(np.load(path))))

    return edit


def entries_of(column: str, change: Callable[[list], list]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "linkers/0/kb/entries.parquet"
        table = pq.read_table(path)
        at = table.schema.get_field_index(column)
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(change(table[column].to_pylist()), table.schema.field(at).type)), path)

    return edit


def spoiled(a: np.ndarray, value: float) -> np.ndarray:
    a[7] = value
    return a


EDITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "shorter": (weights_of(lambda a: a[:-1]), r"linkers/0: weights of n-grams are 1,048,575, not 1,048,576"),
    "empty": (weights_of(lambda a: a[:0]), "weights of n-grams are 0"),
    "square": (weights_of(lambda a: a.reshape(1024, -1)), "weights of n-grams have the shape"),
    "one number": (weights_of(lambda a: a[0]), "weights of n-grams"),
    "double": (weights_of(lambda a: a.astype(np.float64)), "weights of n-grams are no float32"),
    "text": (weights_of(lambda a: np.array(["x"] * 9)), "weights of n-grams are no float32"),
    "pickled": (weights_of(lambda a: np.array([{}], object)), "damaged bundle"),
    "nan": (weights_of(lambda a: spoiled(a, np.nan)), "not finite"),
    "inf": (weights_of(lambda a: spoiled(a, np.inf)), "not finite"),
    "no array": (lambda folder: (folder / "linkers/0/weights.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}"), "damaged bundle"),  # type: ignore[dict-item]
    "gone": (lambda folder: (folder / "linkers/0/weights.npy").unlink(), "weights of n-grams are missing"),
    "no entries": (lambda folder: (folder / "linkers/0/kb/entries.parquet").unlink(), "unreadable"),
    "no concepts": (lambda folder: (folder / "concepts.parquet").unlink(), "unreadable"),
    "no dictionary": (lambda folder: (folder / "recognizer/dictionary.parquet").unlink(), "damaged bundle"),
    "far input": (entries_of("vector", lambda v: [*v[:-1], 10**9]), "damaged bundle"),
    "input below": (entries_of("vector", lambda v: [-1, *v[1:]]), "damaged bundle"),
    "unknown concept": (entries_of("cuis", lambda v: [["C7777777"], *v[1:]]), "concepts without a name"),
    "no concept": (entries_of("cuis", lambda v: [[], *v[1:]]), "without a concept"),
    "other columns": (lambda folder: pq.write_table(pa.table({"x": [1]}), folder / "linkers/0/kb/entries.parquet"), "table"),
    "other dictionary": (lambda folder: pq.write_table(pa.table({"x": [1]}), folder / "recognizer/dictionary.parquet"), "damaged bundle"),
    "dictionary of numbers": (lambda folder: pq.write_table(pa.table({"name": [1]}), folder / "recognizer/dictionary.parquet"), "no text"),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_file_is_one_line_although_its_digest_fits(case: str, packed: Path) -> None:
    edit, message = EDITS[case]
    edit(packed)
    with pytest.raises(UserError, match="damaged bundle"):
        bundle.read(packed)
    sealed(packed)
    said = outcome(packed)
    assert said != "read"
    assert message in said


def test_a_number_of_entries_is_that_of_the_manifest(packed: Path) -> None:
    manifest = json.loads((packed / "bundle.json").read_text())
    manifest["linkers"][0]["sources"]["kb"] += 1
    sealed(packed, linkers=manifest["linkers"])
    assert "entries, not the" in outcome(packed)
    manifest["linkers"] *= 2
    sealed(packed, linkers=manifest["linkers"])
    assert outcome(packed) != "read"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", lambda data: data[:-4]),
        ("model.safetensors", lambda data: data[:20]),
        ("model.safetensors", lambda data: b"\xff" * 8 + data[8:]),
        ("model.safetensors", lambda data: data[:9] + b"[" + data[10:]),
        ("config.json", lambda data: data[:-5]),
        ("tokenizer.json", lambda data: data.replace(b'"', b"'")),
    ],
)
def test_files_of_a_model_can_be_opened(name: str, change: Callable[[bytes], bytes], results: Path, tmp_path: Path) -> None:
    found = cells.find(results / CELL, linker="exact/train+kb")
    bundle.write(dataclasses.replace(found, recognizer=annotating.untrained(tmp_path), dictionary=None), tmp_path / "b")
    bundle.read(tmp_path / "b")
    path = tmp_path / "b/recognizer" / name
    path.write_bytes(change(path.read_bytes()))
    sealed(tmp_path / "b")
    with pytest.raises(UserError, match=rf"damaged bundle.*recognizer/{name}"):
        bundle.read(tmp_path / "b")


def test_vectors_fit_their_entries(tmp_path: Path) -> None:
    """Of an encoder's part; the weights are not read for it."""
    from mentionforge.normalization.linkers import EncoderLinker
    from mentionforge.normalization.loaded import IndexedLinker, inconsistency
    from mentionforge.normalization.settings import Index

    linker = EncoderLinker.model_validate({"kind": "mention", "model": "m"})
    table = pa.table({"vector": [0, 1, 1], "cuis": [["C1"], ["C1", "C2"], ["C2"]]})
    names = pa.chunked_array([["C1", "C2"]])

    def said(*inputs: Any, model: Path | None = Path("x"), known: Any = names) -> str:
        return inconsistency(
            IndexedLinker(linker, Index.model_validate({"sources": ["kb"]}), model, {f"s{i}": (table, a) for i, a in enumerate(inputs)}), known
        )

    good = np.ones((2, 4), np.float32)
    assert said(good) == "" and said(good, good) == ""
    assert said(good[:1]) == "entries of s0 name inputs that are not there"
    assert said(good.astype(np.float64)) == "vectors of s0 are no float32"
    assert said(np.ones(2, np.float32)) == "vectors of s0 have the shape (2,)"
    assert said(np.ones((2, 0), np.float32)) == "vectors of s0 have the shape (2, 0)"
    assert "not finite" in said(np.array([[1, 2], [np.nan, 1]], np.float32))
    assert said(good, np.ones((2, 5), np.float32)) == "vectors of 4 and 5 dimensions in one index"
    assert said(good, model=None) == "no weights of the encoder"
    assert said(good, known=names[:1]) == "entries of s0 have concepts without a name"
    assert said(good, known=None) == ""
