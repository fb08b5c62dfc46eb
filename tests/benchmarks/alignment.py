"""Self-alignment measured: dev after so many updates, and test for the weights that dev chooses beside the untrained and the last ones.

The settings are those of the open preset's linker `aligned`, but for what is given. Run by `make bench-alignment`, which makes the inputs.

    python tests/benchmarks/alignment.py [--results results/open] [--corpora ncbi_disease bc5cdr] [--set steps=60 neighbours=0 …]

Every measurement links distinct mentions to the training mentions, all coded names of the mentions' concepts and 4,000 other names: an
index in which finding the concept is easier than in that of a cell.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from mentionforge import tables
from mentionforge.encoders import Encoder
from mentionforge.normalization.linkers import SelfAlignedLinker
from mentionforge.normalization.linkers.self_aligned import training as alignment


def asked(linker: SelfAlignedLinker, mentions: Path, split: str) -> list[tuple[str, frozenset[str]]]:
    """Distinct mentions of a split and their concepts, read as the linker reads them."""
    rows = tables.read(tables.MENTIONS, mentions).to_pylist()
    found = {
        ((m["expanded"] if linker.expand_abbreviations else None) or m["surface"], frozenset(m["cuis"])) for m in rows if m["split"] == split and m["cuis"]
    }
    return sorted(found, key=lambda m: (m[0], sorted(m[1])))


def ambiguous(material: alignment.TrainingData, linker: SelfAlignedLinker, updates: int = 50) -> float:
    """Share of the pairs of strings drawn for different concepts that have a concept in common, without near concepts in a batch."""
    cuis, rng = list(material.names), np.random.default_rng(0)
    none = np.empty((len(cuis), 0), np.int64)
    shared = different = 0
    for _ in range(updates):
        texts, labels = alignment.draw_batch(material, cuis, none, linker.train, rng)
        common = alignment.share_concept([material.concepts_of[alignment._name_key(text)] for text in texts])
        apart = np.not_equal.outer(labels, labels)
        shared, different = shared + int((common & apart).sum()), different + int(apart.sum())
    return shared / different


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, default=Path("results/open"))
    parser.add_argument("--resources", type=Path, default=Path("resources"))
    parser.add_argument("--preset", type=Path, default=Path("config/open.yaml"))
    parser.add_argument("--corpora", nargs="+", default=["ncbi_disease", "bc5cdr"])
    parser.add_argument("--set", nargs="*", default=[], help="settings of the training, as steps=60")
    given = parser.parse_args()
    settings = yaml.safe_load(given.preset.read_text())["linkers"]["aligned"]
    settings["train"] |= {name: yaml.safe_load(value) for name, _, value in (pair.partition("=") for pair in given.set)}
    linker = SelfAlignedLinker(**settings)
    stamp = given.resources / "models" / linker.model / "fetched.json"
    print("train:", json.dumps(linker.train.model_dump(mode="json")), flush=True)
    for corpus in given.corpora:
        kb, mentions = given.results / "kb" / "open", given.results / "corpora" / corpus / "mentions.parquet"
        material = alignment.load_training_data(linker, kb, mentions)
        test = material._replace(dev=asked(linker, mentions, "test"))
        print(
            f"{corpus}: {len(material.dev):,} distinct dev mentions, {len(test.dev):,} of test; shared pairs {100 * ambiguous(material, linker):.3f} %",
            flush=True,
        )
        with tempfile.TemporaryDirectory() as temporary:
            spec, out = Path(temporary) / "linker.json", Path(temporary) / "out"
            spec.write_text(json.dumps({"kind": "linkers", "name": "aligned", "part": None, "stage_version": 2, "settings": linker.model_dump(mode="json")}))
            last = Path(temporary) / "last"
            save = alignment._save_checkpoint

            def kept(path, model, optimizer, state, save=save, last=last):
                shutil.rmtree(last, ignore_errors=True)
                model.save_pretrained(last, safe_serialization=True)
                save(path, model, optimizer, state)

            alignment._save_checkpoint = kept
            begun = time.perf_counter()
            alignment.align(spec, stamp, kb, mentions, out)
            alignment._save_checkpoint = save
            history = json.loads((out / "fetched.json").read_text())["training"]["history"]
            print(
                f"{corpus}: {time.perf_counter() - begun:.0f} s; dev acc@1 by updates: "
                + ", ".join(f"{h['step']}: {100 * h['dev_acc@1']:.1f}" for h in history)
            )
            encoder = Encoder(out / "fetched.json", linker.pooling, linker.max_tokens, linker.batch_size, "auto")
            print(f"{corpus}: test acc@1 of the weights that dev chose: {100 * alignment._dev_accuracy(encoder, test):.1f}")
            encoder.model = type(encoder.model).from_pretrained(last).eval()
            print(f"{corpus}: test acc@1 of the last weights: {100 * alignment._dev_accuracy(encoder, test):.1f}", flush=True)


if __name__ == "__main__":
    main()
