"""The table contracts: what is written is checked, sorted and stamped; what breaks a contract is named."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentionforge import tables
from mentionforge.errors import UserError
from mentionforge.provenance import sha256_file

ROWS = [{"cui": "C0000002", "note_id": "C0000002-0"}, {"cui": "C0000001", "note_id": "C0000001-0"}]


def test_rows_are_sorted_by_key_and_bytes_do_not_depend_on_order(tmp_path) -> None:
    tables.write(tables.CHOSEN, tmp_path / "a.parquet", ROWS, {"x": 1})
    tables.write(tables.CHOSEN, tmp_path / "b.parquet", ROWS[::-1], {"x": 1})
    assert sha256_file(tmp_path / "a.parquet") == sha256_file(tmp_path / "b.parquet")
    assert tables.read(tables.CHOSEN, tmp_path / "a.parquet")["note_id"].to_pylist() == ["C0000001-0", "C0000002-0"]
    assert tables.provenance(tmp_path / "a.parquet") == {"table": "chosen", "x": 1}


@pytest.mark.parametrize("table", tables.ALL, ids=lambda t: t.name)
def test_every_table_may_be_empty_and_has_key_columns(table: tables.Table, tmp_path) -> None:
    assert set(table.key) <= {c.name for c in table.columns} and all(c.doc for c in table.columns)
    tables.write(table, tmp_path / "t.parquet", [])
    assert tables.read(table, tmp_path / "t.parquet").schema.names == [c.name for c in table.columns]


def test_duplicate_key_names_the_row(tmp_path) -> None:
    with pytest.raises(UserError, match=r"chosen table has a key twice in chosen:2: note_id = \('C0000002-0',\)"):
        tables.build(tables.CHOSEN, [ROWS[0], ROWS[0]])


def test_null_names_column_and_row() -> None:
    with pytest.raises(UserError, match=r"empty cell in chosen:2: column cui"):
        tables.build(tables.CHOSEN, [ROWS[0], {"note_id": "x-0", "cui": None}])


def test_wrong_columns_and_types_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"wrong columns in chosen:1: cui, extra"):
        tables.build(tables.CHOSEN, [{"note_id": "x", "extra": 1}])
    pq.write_table(pa.table({"note_id": ["a"], "cui": [1]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"wrong type in .*t\.parquet: column cui is int64, not string"):
        tables.read(tables.CHOSEN, tmp_path / "t.parquet")


def test_unknown_value_is_named() -> None:
    row = {"note_id": "n", "start": 0, "end": 1, "cui": "C", "surface": "x", "match": "guess", "score": 1.0}
    with pytest.raises(UserError, match=r"unknown value in synthetic_mentions:1: column match: 'guess'"):
        tables.build(tables.SYNTHETIC_MENTIONS, [row])


def test_unreadable_file_is_a_user_error(tmp_path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    for path in (tmp_path / "t.parquet", tmp_path / "gone.parquet"):
        with pytest.raises(UserError, match="unreadable chosen table"):
            tables.read(tables.CHOSEN, path)


def test_writer_gives_the_rows_of_write(tmp_path):
    """In one range the same bytes, in several the same table, whatever the order of rows; nothing but the file is left."""
    names = [(f"C{i % 97:02d}", f"n{i}", "S", "PT") for i in range(500)]
    rows = [{"cui": c, "name": n, "source": s, "term_type": t, "preferred": True} for c, n, s, t in names]
    tables.write(tables.NAMES, tmp_path / "whole.parquet", rows, {"made": 1})
    whole = tables.read(tables.NAMES, tmp_path / "whole.parquet")
    for firsts, name in (((), "one"), (("C20", "C50", "C50x", "D"), "several")):
        writer = tables.Writer(tables.NAMES, tmp_path / f"{name}.parquet", firsts)
        writer.BUFFER = 7
        for row in reversed(rows):
            writer.add(row)
        writer.finish({"made": 1})
        assert tables.read(tables.NAMES, tmp_path / f"{name}.parquet").equals(whole)
        assert tables.provenance(tmp_path / f"{name}.parquet") == {"table": "names", "made": 1}
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    broken = tables.Writer(tables.NAMES, tmp_path / "broken.parquet", ["C50"])
    broken.BUFFER = 1
    for row in (rows[0], rows[60], rows[0]):
        broken.add(row)
    with pytest.raises(UserError, match="key twice"):
        broken.finish()
    broken.discard()
    assert {p.name for p in tmp_path.iterdir()} == {"whole.parquet", "one.parquet", "several.parquet"}
