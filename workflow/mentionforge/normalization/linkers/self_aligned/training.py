"""Self-alignment: trains an encoder so that names of one concept lie close together (SapBERT's objective, arXiv 2010.11784).

In: names of the knowledge base, mentions of the corpus. Out: weights of the encoder with the best acc@1 on dev, and their stamp.
Knows nothing of the cells that use the encoder. A killed job resumes from its checkpoint with the same numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mentionforge import provenance, tables
from mentionforge.encoders import Encoder, fast_bfloat16
from mentionforge.errors import UserError
from mentionforge.normalization.linkers.encoder import VectorRetriever
from mentionforge.normalization.linkers.self_aligned import Alignment, SelfAlignedLinker
from mentionforge.normalization.linkers.self_aligned.mining import hard_pairs, share_concept
from mentionforge.normalization.search import IndexedEntries, rank_concepts
from mentionforge.progress import say
from mentionforge.specs import read_spec
from mentionforge.text import plain

# A pair is two names of a concept, or a training mention and a name of its concept. Each update holds pairs of some concepts and of their neighbours,
# so that confusable concepts meet in one batch. `mining` keeps the hard pairs; the multi-similarity loss of pytorch-metric-learning, with the constants
# of SapBERT's published code, moves them.
#
# Every `eval_steps` updates, dev mentions are linked to training mentions and names as `search` ranks them (acc@1). The best weights are kept and a
# checkpoint is written. Without a dev split, all updates are made. To keep a measurement within seconds, the names on dev are all names of
# the dev concepts and a fixed sample of the others.


VERSION = 3
"""Of the part normalization.align: raise it where earlier results would be wrong (mentionforge.versions)."""

LIBRARIES = ("pytorch-metric-learning", "torch", "transformers")
"""Libraries whose versions a checkpoint records; checkpoints of other versions are not used."""

DEV_NAMES = 4_000
"""Names of other concepts that are added to the names of the dev concepts in a measurement."""


class TrainingData(NamedTuple):
    """Data that an encoder is trained on and measured with.

    Attributes:
        names: Sorted distinct names of each concept, by CUI in sorted order.
        mentions: Distinct (surface, CUI) of the training split, for concepts that have a name.
        dev: Distinct (surface, CUIs) of the dev split.
        train: Distinct (surface, CUIs) of the training split.
        concepts_of: All concepts of each string, by `_name_key`: as a name in the whole knowledge base, or as a training mention.
    """

    names: dict[str, list[str]]
    mentions: list[tuple[str, str]]
    dev: list[tuple[str, frozenset[str]]]
    train: list[tuple[str, frozenset[str]]]
    concepts_of: dict[str, set[str]]


def align(spec: Path, model: Path, kb: Path, mentions: Path, out: Path, synthetic: Path | None = None) -> None:
    """Train an encoder and write its weights (safetensors, tokenizer) and their stamp, fetched.json.

    Args:
        spec: Spec of the linker.
        model: Stamp of the encoder's weights to start from.
        kb: Folder with tables.NAMES and tables.XREFS.
        mentions: tables.MENTIONS of the corpus.
        out: Folder to write.
        synthetic: Folder with tables.SYNTHETIC_MENTIONS, if they are additional names.

    Raises:
        UserError: No concept has two names.
    """
    import torch
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    linker: SelfAlignedLinker = read_spec(spec, SelfAlignedLinker)
    settings = linker.train
    data = load_training_data(linker, kb, mentions, synthetic)
    encoder = Encoder(model, linker.pooling, linker.max_tokens, linker.batch_size, "auto")
    cuis = list(data.names)
    neighbours = _neighbour_concepts(encoder, data, settings.neighbours)
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    fast = fast_bfloat16(encoder.device)
    loss_of = MultiSimilarityLoss(alpha=1, beta=60, base=0.5)
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    warm = max(1, settings.steps // 10)
    state: dict[str, Any] = {"step": 0, "best": -1.0, "best_step": 0, "stale": 0, "history": []}
    out.mkdir(parents=True, exist_ok=True)
    inputs = {"spec": spec, "model": model, "names": kb / "names.parquet", "xrefs": kb / "xrefs.parquet", "mentions": mentions}
    inputs |= {"synthetic": synthetic / "mentions.parquet"} if synthetic else {}
    key = job_digest(inputs, encoder.device.type, str(torch.bfloat16 if fast else torch.float32))
    checkpoint = out / "checkpoint"
    if kept := _load_checkpoint(checkpoint, key, encoder.model, optimizer):
        state = {name: kept[name] for name in state}
        rng.bit_generator.state = kept["rng"]
        say(f"going on from update {state['step']}")
    say(f"{len(cuis):,} concepts, {sum(map(len, data.names.values())):,} names, {len(data.mentions):,} mentions; {settings.steps} updates at most")
    if not state["history"]:
        state["history"].append({"step": 0, "dev_acc@1": _dev_accuracy(encoder, data)})
        state["best"] = state["history"][0]["dev_acc@1"]
        _save_weights(best_weights_folder(out, 0), encoder)
        say(f"dev acc@1 before training: {state['best']:.4f}")
    encoder.model.train()
    running: list[float] = []
    while state["step"] < settings.steps and state["stale"] < settings.patience:
        texts, labels = draw_batch(data, cuis, neighbours, settings, rng)
        with torch.autocast(encoder.device.type, torch.bfloat16, enabled=fast):
            vectors = _embed_texts(encoder, texts)
        target = torch.tensor(labels, device=encoder.device)
        common = torch.from_numpy(share_concept([data.concepts_of[_name_key(text)] for text in texts])).to(encoder.device)
        loss = loss_of(vectors, target, hard_pairs(vectors, target, common, settings.miner, settings.margin))
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min((state["step"] + 1) / warm, (settings.steps - state["step"]) / max(1, settings.steps - warm))
        optimizer.step()
        optimizer.zero_grad()
        running.append(float(loss.detach()))
        state["step"] += 1
        if state["step"] % settings.eval_steps == 0 or state["step"] == settings.steps:
            encoder.model.eval()
            score = _dev_accuracy(encoder, data)
            encoder.model.train()
            state["history"].append({"step": state["step"], "dev_acc@1": score, "loss": float(np.mean(running))})
            say(f"update {state['step']:,} of {settings.steps:,}: loss {np.mean(running):.4f}, dev acc@1 {score:.4f}")
            running = []
            if score > state["best"] or not data.dev:  # without dev, the last weights are kept
                state.update(best=score, best_step=state["step"], stale=0)
                _save_weights(best_weights_folder(out, state["step"]), encoder)
            else:
                state["stale"] += 1
            _save_checkpoint(checkpoint, encoder.model, optimizer, {**state, "rng": rng.bit_generator.state, "key": key})
            for path in set(out.glob("best*")) - {best_weights_folder(out, state["best_step"])}:
                shutil.rmtree(path)
    say(f"best at update {state['best_step']}: dev acc@1 {state['best']:.4f}; {state['step']} updates made")
    weights, best = out / "weights", best_weights_folder(out, state["best_step"])
    shutil.rmtree(weights, ignore_errors=True)
    shutil.copytree(best, weights)  # a copy, so that a job killed before the stamp is written still has the best weights
    stamp = provenance.stamp("normalization align", inputs, history=state["history"], best_step=state["best_step"])
    card = {
        "folder": weights.name,
        "reference": {"aligned": provenance.digest(json.dumps(stamp["inputs"]))},
        "sha256": provenance.sha256_file(weights / "model.safetensors"),
        "training": stamp,
    }
    _write_text(out / "fetched.json", json.dumps(card, indent=1, sort_keys=True))
    for path in (best, checkpoint):
        shutil.rmtree(path, ignore_errors=True)


def job_digest(inputs: Mapping[str, Path], device: str, dtype: str) -> str:
    """Digest of everything that the training depends on; a checkpoint with another digest is not used.

    Args:
        inputs: Role and path of every file that is read; the spec holds the version of the code.
        device: Type of the device; a checkpoint holds the random state of one type.
        dtype: Type of the computation.
    """
    read = {role: provenance.sha256_paths([path]) for role, path in sorted(inputs.items())}
    return provenance.digest(json.dumps([read, provenance.versions(*LIBRARIES), device, dtype]))


def best_weights_folder(out: Path, step: int) -> Path:
    """Folder of the best weights until the training ends. It is named by update, so a checkpoint never finds weights of a later update."""
    return out / f"best-{step}"


def load_training_data(linker: SelfAlignedLinker, kb: Path, mentions: Path, synthetic: Path | None = None) -> TrainingData:
    """Read names and mentions; synthetic mentions are additional names of concepts that the training split lacks.

    Raises:
        UserError: No concept has two names.
    """
    settings = linker.train
    table = tables.read(tables.NAMES, kb / "names.parquet")
    concepts_of: dict[str, set[str]] = {}
    for cui, name in zip(table["cui"].to_pylist(), table["name"].to_pylist(), strict=True):
        concepts_of.setdefault(_name_key(name), set()).add(cui)
    if settings.xrefs:
        xrefs = tables.read(tables.XREFS, kb / "xrefs.parquet")
        coded = xrefs.filter(pc.is_in(xrefs["source"], value_set=pa.array(settings.xrefs)))["cui"].unique()
        table = table.filter(pc.is_in(table["cui"], value_set=coded))
    names: dict[str, dict[str, str]] = {}

    def add(cui: str, name: str) -> None:
        names.setdefault(cui, {}).setdefault(name.casefold(), name)

    for cui, name in zip(table["cui"].to_pylist(), table["name"].to_pylist(), strict=True):
        add(cui, name)
    by_split: dict[str, set[tuple[str, frozenset[str]]]] = {"train": set(), "dev": set()}
    for m in tables.read(tables.MENTIONS, mentions).to_pylist():
        if m["split"] in by_split and m["cuis"]:
            surface = (m["expanded"] if linker.expand_abbreviations else None) or m["surface"]
            by_split[m["split"]].add((surface, frozenset(m["cuis"])))
    if synthetic:
        known = {cui for _, cuis in by_split["train"] for cui in cuis}
        for m in tables.read(tables.SYNTHETIC_MENTIONS, synthetic / "mentions.parquet").to_pylist():
            if m["match"] != tables.GOLD and m["cui"] not in known and m["cui"] in names:
                add(m["cui"], m["surface"])
                concepts_of.setdefault(_name_key(m["surface"]), set()).add(m["cui"])
    for surface, cuis in by_split["train"]:
        concepts_of.setdefault(_name_key(surface), set()).update(cuis)
    sorted_names = {cui: sorted(names[cui].values()) for cui in sorted(names)}
    if not any(len(synonyms) > 1 for synonyms in sorted_names.values()):
        raise UserError("nothing to align", str(kb / "names.parquet"), "no concept has two names", "check train.xrefs, or take another knowledge base")
    train, dev = (sorted(by_split[split], key=lambda m: (m[0], sorted(m[1]))) for split in ("train", "dev"))
    pairs = sorted({(surface, cui) for surface, cuis in train for cui in cuis if cui in sorted_names})
    return TrainingData(sorted_names, pairs, dev, train, concepts_of)


def _name_key(text: str) -> str:
    """Key of a string; strings with equal keys count as one name."""
    return plain(text).casefold()


def draw_batch(data: TrainingData, cuis: Sequence[str], neighbours: np.ndarray, settings: Alignment, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Texts of one update and the concept number of each: pairs, and for each pair one or two names of some neighbour concepts."""
    place = {cui: i for i, cui in enumerate(cuis)}
    several = [cui for cui in cuis if len(data.names[cui]) > 1]
    texts: list[str] = []
    labels: list[int] = []

    def add(cui: str) -> None:
        names = data.names[cui]
        chosen = rng.choice(len(names), size=min(2, len(names)), replace=False)
        texts.extend(names[i] for i in chosen)
        labels.extend([place[cui]] * len(chosen))

    while len(texts) < 2 * settings.pairs:
        if data.mentions and rng.random() < settings.mentions:
            surface, cui = data.mentions[rng.integers(len(data.mentions))]
            texts += [surface, data.names[cui][rng.integers(len(data.names[cui]))]]
            labels += [place[cui]] * 2
        else:
            cui = several[rng.integers(len(several))]
            add(cui)
        near = neighbours[place[cui]]
        for i in rng.choice(near, size=min(settings.neighbours, len(near)), replace=False) if len(near) else ():
            add(cuis[i])
    return texts, labels


def _neighbour_concepts(encoder: Encoder, data: TrainingData, per_update: int) -> np.ndarray:
    """For each concept, the nearest concepts by the mean vector of their first four names: 2 x `per_update` + 1, to sample from."""
    import faiss

    number = min(2 * per_update + 1, len(data.names) - 1)
    if per_update == 0 or number < 1:
        return np.empty((len(data.names), 0), np.int64)
    texts = [name for names in data.names.values() for name in names[:4]]
    owner = np.repeat(np.arange(len(data.names)), [len(names[:4]) for names in data.names.values()])
    vectors = encoder.encode(encoder.strings(texts), "embedding names, for neighbours").dense()
    centres = np.zeros((len(data.names), vectors.shape[1]), np.float32)
    np.add.at(centres, owner, vectors)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True) + 1e-9
    _, nearest = faiss.knn(centres, centres, number + 1, metric=faiss.METRIC_INNER_PRODUCT)
    rows = [[i for i in row if i != concept][:number] for concept, row in enumerate(nearest.tolist())]
    return np.array(rows, np.int64)


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Any:
    """Vectors of length 1 with gradients, [texts, dimensions], pooled as in the settings."""
    import torch

    inputs = encoder.tokenizer(list(map(plain, texts)), padding=True, truncation=True, max_length=encoder.max_tokens, return_tensors="pt").to(encoder.device)
    hidden = encoder.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state.float()
    if encoder.pooling == "cls":
        return torch.nn.functional.normalize(hidden[:, 0], dim=1)
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def _dev_accuracy(encoder: Encoder, data: TrainingData) -> float:
    """acc@1 of dev mentions, linked to training mentions and names as the linker ranks them; 0 without dev."""
    if not data.dev:
        return 0.0
    dev_concepts = {cui for _, cuis in data.dev for cui in cuis}
    others = [(name, frozenset([cui])) for cui, names in data.names.items() if cui not in dev_concepts for name in names]
    step = max(1, len(others) // DEV_NAMES)
    entries = [*data.train, *((name, frozenset([cui])) for cui in sorted(dev_concepts & set(data.names)) for name in data.names[cui]), *others[::step]]
    encoded = encoder.encode(encoder.strings([text for text, _ in [*entries, *data.dev]]), "measuring on dev")
    cuis = sorted({cui for _, concepts in entries for cui in concepts})
    number = {cui: i for i, cui in enumerate(cuis)}
    pairs = [(row, number[cui]) for row, (_, concepts) in zip(encoded.rows.tolist(), entries, strict=False) for cui in concepts]
    (row, concept), votes = (column.T for column in np.unique(np.array(pairs, np.int64), axis=0, return_counts=True))
    index = IndexedEntries(encoded.vectors[: row.max() + 1], row, concept, votes, np.zeros(len(row), np.int64))
    ranking = rank_concepts(encoded.vectors[encoded.rows[len(entries) :]], [index], VectorRetriever("cosine"), top=1)
    return float(np.mean([cuis[best] in gold for best, (_, gold) in zip(ranking.concept.tolist(), data.dev, strict=True)]))


def _save_weights(path: Path, encoder: Encoder) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoder.model.save_pretrained(temporary, safe_serialization=True)
    encoder.tokenizer.save_pretrained(temporary)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def _save_checkpoint(path: Path, model: Any, optimizer: Any, state: dict[str, Any]) -> None:
    """Write weights, moments of the optimizer, random states and `state` as safetensors and JSON; a complete folder replaces the previous one."""
    import torch
    from safetensors.torch import save_file

    temporary, before = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    temporary.mkdir(parents=True, exist_ok=True)
    arrays = {f"model.{name}": value.detach().contiguous() for name, value in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        arrays |= {f"optimizer.{number}.{name}": value.detach().contiguous() for name, value in moments.items()}
    arrays["torch_rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        arrays["cuda_rng"] = torch.cuda.get_rng_state()
    save_file(arrays, temporary / "state.safetensors")
    (temporary / "state.json").write_text(json.dumps(state))
    if path.exists():
        os.replace(path, before)
    os.replace(temporary, path)
    shutil.rmtree(before, ignore_errors=True)


def _load_checkpoint(path: Path, key: str, model: Any, optimizer: Any) -> dict[str, Any] | None:
    """Restore a checkpoint of the same job and return its state, or None if there is no such checkpoint and training starts anew."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for left in (*path.parent.glob(f".{path.name}.*.old"), *path.parent.glob(".*.tmp")):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    if not (path / "state.json").is_file():
        return None
    try:
        kept: dict[str, Any] = json.loads((path / "state.json").read_text())
        if kept["key"] != key:
            say(f"{path.name}/ is of another job (settings, inputs or versions have changed); starting anew")
            return None
        if not best_weights_folder(path.parent, kept["best_step"]).is_dir():
            raise ValueError("the best weights are not there")
        arrays = load_file(path / "state.safetensors")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        say(f"{path} is unreadable ({str(error).splitlines()[0]}); starting anew")
        return None
    model.load_state_dict({name.removeprefix("model."): value for name, value in arrays.items() if name.startswith("model.")})
    moments: dict[int, dict[str, Any]] = {}
    for name, value in arrays.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".", 2)
            moments.setdefault(int(number), {})[moment] = value
    own_state = optimizer.state_dict()
    optimizer.load_state_dict({**own_state, "state": moments})
    torch.set_rng_state(arrays["torch_rng"])
    if torch.cuda.is_available() and "cuda_rng" in arrays:
        torch.cuda.set_rng_state(arrays["cuda_rng"])
    return kept


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)
