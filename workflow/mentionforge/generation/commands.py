"""Commands of the generation stage.

In: options of the command line. Out: calls of the modules that each command imports, on GPUs claimed for it. Knows nothing of kinds and backends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from mentionforge.devices import claim

app = typer.Typer(help="Concepts become prompts, notes and located mentions.", no_args_is_help=True)

SPEC = typer.Option(..., help="Spec file of the generator, of the step that this command runs.")
KB = typer.Option(..., help="Folder of the knowledge base's tables.")
MODEL = typer.Option(..., help="Stamp of the fetched weights (fetched.json).")
OUT = typer.Option(..., help="Table to write.")
CORPUS = typer.Option(None, help="Folder of the tables of the corpus whose training split the generator reads.")
REPLAY = typer.Option(None, help="Notes written elsewhere, for a generator of kind replay; pairs of the training split, for few_shot.")


def _read(spec: Path) -> Any:
    """Settings of the generator."""
    from mentionforge.generation.kinds import Generator
    from mentionforge.specs import read_spec

    return read_spec(spec, Generator)


@app.command("prompts")
def prompts(
    spec: Path = SPEC,
    kb: Path = KB,
    replay: Path = REPLAY,
    out: Path = OUT,
    mentions: Path = typer.Option(None, help="Gold mentions of the corpus that concepts.corpus names."),
    corpus: Path = CORPUS,
) -> None:
    """One prompt per note to write, with or without a definition."""
    _read(spec).make_prompts(spec, kb, replay, mentions, out, corpus)


@app.command("pairs")
def pairs(spec: Path = SPEC, kb: Path = KB, corpus: Path = typer.Option(..., help="Folder of the corpus' tables."), out: Path = OUT) -> None:
    """Fine-tuning pairs: prompt and tagged sentences, from the training split alone."""
    from mentionforge.generation.pairs import make_pairs

    make_pairs(spec, kb, corpus, out)


@app.command("finetune")
def finetune(
    spec: Path = SPEC,
    model: Path = MODEL,
    pairs: Path = typer.Option(..., help="Fine-tuning pairs."),
    adapter: Path = typer.Option(..., help="Folder to write the adapter to."),
    training: Path = typer.Option(..., help="training.csv to write: one row per update."),
) -> None:
    """QLoRA: a low-rank adapter on the 4-bit model, trained on the pairs."""
    claim(_read(spec).finetune.devices)
    from mentionforge.generation.finetune import finetune as run

    run(spec, model, pairs, adapter, training)


@app.command("sample")
def sample(
    spec: Path = SPEC,
    model: Path = typer.Option(None, help="Stamp of the fetched weights (fetched.json); none where a server writes the notes."),
    prompts: Path = typer.Option(..., help="Prompts of the generator."),
    adapter: Path = typer.Option(None, help="Folder of the adapter; none: the model as it is."),
    shard: int = typer.Option(0, min=0, help="Which shard, from 0."),
    shards: int = typer.Option(1, min=1, help="Of how many."),
    out: Path = OUT,
) -> None:
    """Write the notes of one shard of the prompts; a shard that was killed goes on where it stopped."""
    claim(_read(spec).backend.gpus)
    from mentionforge.generation.sample import sample_shard

    sample_shard(spec, model, prompts, adapter, shard, shards, out)


@app.command("merge")
def merge(
    model: Path = MODEL,
    adapter: Path = typer.Option(..., help="Folder of the adapter."),
    dtype: str = typer.Option("auto", help="Type of the weights to write: auto (as they are stored), bfloat16, float16 or float32."),
    parent: int = typer.Option(None, hidden=True, help="End when this process, which started the command, is gone."),
    out: Path = typer.Option(..., help="Folder to write."),
) -> None:
    """Merge an adapter into its model's weights, tensor by tensor, on the CPU: a folder for vLLM, or for a server."""
    from mentionforge.generation import merging

    if parent is not None:
        merging.exit_with_parent(parent)
    merging.merge(model, adapter, merging.dtype_of(dtype), out)


@app.command("gather")
def gather(
    shards: list[Path] = typer.Argument(..., help="Tables of the shards."), prompts: Path = typer.Option(..., help="Prompts of the generator."), out: Path = OUT
) -> None:
    """All shards' notes in one table; every prompt has its note."""
    from mentionforge.generation.sample import gather as run

    run(prompts, shards, out)


@app.command("control")
def control(
    spec: Path = SPEC,
    kb: Path = KB,
    prompts: Path = typer.Option(..., help="Prompts of the generator."),
    replay: Path = REPLAY,
    corpus: Path = CORPUS,
    out: Path = OUT,
) -> None:
    """Notes without a language model at hand: fixed sentences, bare names, sentences with another name, or notes written elsewhere."""
    _read(spec).make_notes(spec, kb, prompts, replay, out, corpus)


@app.command("locate")
def locate(
    spec: Path = SPEC,
    kb: Path = KB,
    prompts: Path = typer.Option(..., help="Prompts of the generator."),
    notes: Path = typer.Option(..., help="Notes of the generator."),
    encoder: Path = typer.Option(None, help="Stamp of the encoder's weights, for locate.tag_similarity."),
    out: Path = typer.Option(..., help="Folder for located, mentions and rejected .parquet, and funnel.json."),
) -> None:
    """Find the mentions in the notes: the model's tags, then exact, synonym and fuzzy matches; count what is dropped."""
    if encoder:
        claim()
    from mentionforge.generation.locate import locate_notes

    locate_notes(spec, kb, prompts, notes, out, encoder)


@app.command("filter")
def filter_(
    spec: Path = SPEC,
    kb: Path = KB,
    prompts: Path = typer.Option(..., help="Prompts of the generator."),
    notes: Path = typer.Option(..., help="Notes of the generator."),
    located: Path = typer.Option(..., "--found", help="Folder that `locate` wrote."),
    corpus: list[Path] = typer.Option([], help="Folder of a corpus' tables, whose test documents notes must not repeat; may be repeated."),
    pairs: Path = typer.Option(None, help="Fine-tuning pairs, which notes must not repeat."),
    encoder: Path = typer.Option(None, help="Stamp of the encoder's weights, for the filter agreement."),
    licensed: bool = typer.Option(False, "--licensed", help="Leave texts out of the examples."),
    out: Path = typer.Option(..., help="Folder to write to."),
) -> None:
    """Run the chain of quality filters over the located notes; count, and keep the reason of, what is dropped."""
    if encoder:
        claim()
    from mentionforge.generation.filtering import filter_notes

    filter_notes(spec, kb, prompts, notes, located, out, corpus, pairs, encoder, licensed)
