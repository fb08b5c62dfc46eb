"""Knowledge base extraction at the scale of a full UMLS release: from a folder, from a zip, beside pandas, all in one run.

python tests/benchmarks/bench_kb.py [--atoms 17000000] [--runs 3] [--folder FOLDER]

Writes a made-up release (2.5 GB at full scale) and its zip to a temporary folder, or to FOLDER, where they are found again. Every
measurement is a process of its own, so that imports count and memory is its peak resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from umls import write_release, zip_release

EXTRACT = "import sys; from pathlib import Path; from mentionforge.kb.extract import extract; extract(Path(sys.argv[1]), Path(sys.argv[2]))"

READ_BACK = """
import sys, time
from mentionforge import tables
from mentionforge.kb.extract import TABLES
begun = time.perf_counter()
for table in TABLES:
    tables.read(table, f"{sys.argv[1]}/{table.name}.parquet")
print(time.perf_counter() - begun)
"""

PANDAS = """
import sys
import pandas as pd
for name in ("MRCONSO", "MRSTY", "MRDEF", "MRCUI"):
    pd.read_csv(f"{sys.argv[1]}/{name}.RRF", sep="|", header=None, dtype=str, quoting=3)
"""


class Measured(NamedTuple):
    """Wall seconds, peak resident memory in MiB, and what the process printed."""

    seconds: float
    mib: float
    printed: str


def measure(program: str, *arguments: object) -> Measured:
    """Run a Python program in a process of its own."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"a measured process failed: {program[:60]}")
    return Measured(time.perf_counter() - begun, usage.ru_maxrss / 1024, printed)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=17_000_000, help="rows of MRCONSO")
    parser.add_argument("--runs", type=int, default=3, help="repetitions in turn, of which the median counts")
    parser.add_argument("--folder", type=Path, help="where release and zip are written, and found again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mentionforge-bench-") as scratch:
        base = given.folder or Path(scratch)
        meta, packed = base / "META", base / "release.zip"
        if not (meta / "MRFILES.RRF").is_file():
            print(f"writing a release of {given.atoms:,} MRCONSO rows", flush=True)
            # A process of its own: a measured process' peak memory starts from that of the one that began it.
            with ProcessPoolExecutor(1, get_context("spawn")) as writer:
                writer.submit(write_release, meta, given.atoms).result()
        if not packed.is_file():
            print("packing it", flush=True)
            zip_release(meta, packed)
        size = sum(f.stat().st_size for f in meta.iterdir())
        print(f"release: {size / 1e9:.2f} GB, zip {packed.stat().st_size / 1e9:.2f} GB; {os.cpu_count()} cores", flush=True)
        out = Path(scratch) / "out"
        specs = {}
        for name, path in (("folder", meta), ("zip", packed)):
            specs[name] = Path(scratch) / f"{name}.json"
            specs[name].write_text(json.dumps({"kind": "kbs", "name": name, "settings": {"source": "rrf", "path": str(path)}}))
        for file in meta.iterdir():  # the first reading of all would be the disk's; by chunks, as a child's peak memory starts from its parent's
            with open(file, "rb") as handle:
                while handle.read(1 << 20):
                    pass
        runs: dict[str, list[Measured]] = {"folder": [], "zip": [], "pandas": []}
        back = []
        for _ in range(given.runs):  # in turn, as the machine's speed drifts
            runs["folder"].append(measure(EXTRACT, specs["folder"], out))
            back.append(float(measure(READ_BACK, out).printed))
            runs["zip"].append(measure(EXTRACT, specs["zip"], out))
            runs["pandas"].append(measure(PANDAS, meta))
    for name, found in runs.items():
        print(f"{name}: {', '.join(f'{m.seconds:.2f}' for m in found)} s", flush=True)
    seconds = {name: statistics.median(m.seconds for m in found) for name, found in runs.items()}
    memory = {name: max(m.mib for m in found) for name, found in runs.items()}
    print(f"extraction from the folder  {seconds['folder']:7.1f} s  {memory['folder']:7.0f} MiB")
    print(f"extraction from the zip     {seconds['zip']:7.1f} s  {memory['zip']:7.0f} MiB   {seconds['zip'] / seconds['folder']:.2f} times the folder's time")
    print(f"reading the tables back     {statistics.median(back):7.2f} s")
    print(
        f"pandas.read_csv alone       {seconds['pandas']:7.1f} s  {memory['pandas']:7.0f} MiB   {seconds['pandas'] / seconds['folder']:.1f} times the whole extraction"
    )


if __name__ == "__main__":
    main()
