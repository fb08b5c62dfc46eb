"""Shared by all rules: the validated config, paths, wildcard constraints, and the functions that rules call."""

import json
import os
import re
import shlex
from types import SimpleNamespace
from typing import get_args

from mentionforge import versions
from mentionforge.config import (
    TAUGHT,
    TRAINED_ON,
    UNTRAINED,
    DictionaryRecognizer,
    LlmGenerator,
    Schedule,
    TaggerRecognizer,
    all_parts_of,
    cross_cells,
    end_to_end_cells,
    load_config,
    located,
    normalization_cells,
    recognition_cells,
    same_names,
    spec_text,
    swept_settings,
)
from mentionforge.entries import NAME_PATTERN, NONE
from mentionforge.external.settings import EXTERNAL, files_below
from mentionforge.leftovers import recorded_outputs
from mentionforge.models import refuse_other, watched
from mentionforge.provenance import digest
from snakemake.settings.types import DeploymentMethod

with ending():
    CONFIG = load_config(located(config, Path.cwd(), Path(workflow.basedir)), root=Path.cwd(), places=WRITTEN.places)

if CONFIG.mirror:
    # Not a param of the fetch rule: where a file was taken from changes nothing about it.
    os.environ.setdefault("MENTIONFORGE_MIRROR", CONFIG.mirror)

if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    # Environments hold the libraries; the program runs from this checkout (envs/mentionforge.post-deploy.sh).
    os.environ.update(MENTIONFORGE_WORKFLOW=str(Path(workflow.basedir) / "workflow"))

R = CONFIG.results
CONFIG_DIGEST = digest(json.dumps(CONFIG.model_dump(mode="json", exclude={"results", "resources", "mirror", "report"}), sort_keys=True))
# In the order of the configuration, which is that of the settings in the variants' names.
SWEEP_CONFIG = json.dumps({key: value for key, value in config.items() if key not in ("report", "downloads", "resources", "mirror")})
SWEEPS = [f"{R}/sweeps/sweeps.csv", f"{R}/sweeps/sweeps.md"] if swept_settings(config) else []
RESOURCES = CONFIG.resources
CACHING = workflow.workflow_settings.cache is not None
RECOGNITION = recognition_cells(CONFIG)
CROSS = cross_cells(CONFIG)
END_TO_END = end_to_end_cells(CONFIG)
NORMALIZATION = normalization_cells(CONFIG)
SEARCHING = sorted(name for name, entry in CONFIG.linkers.items() if entry.searches)
EXTERNAL_LINKERS = sorted(name for name, entry in CONFIG.linkers.items() if entry.imported)
ALIGNED = sorted(name for name, entry in CONFIG.linkers.items() if entry.trains and entry.searches)
HYBRIDS = sorted(name for name, entry in CONFIG.linkers.items() if entry.fuses)
RERANKERS = sorted(name for name, entry in CONFIG.linkers.items() if entry.trains and not entry.searches)
LLMS = sorted(name for name, g in CONFIG.generators.items() if isinstance(g, LlmGenerator))
CONTROLS = sorted(set(CONFIG.generators) - set(LLMS))
VLLMS = [name for name in LLMS if CONFIG.generators[name].backend.kind == "vllm"]


CELLS = [*RECOGNITION, *NORMALIZATION]
USED_CORPORA = sorted({c.corpus for c in [*CELLS, *CROSS]})
USED_KBS = sorted({CONFIG.corpora[c].kb for c in USED_CORPORA})
USED_GENERATORS = sorted({c.generator for c in CELLS} - {NONE})
USED_LINKERS = sorted({c.linker for c in NORMALIZATION} | {part for c in NORMALIZATION for part in all_parts_of(CONFIG, c.linker)})
USED_MODELS = sorted(
    {CONFIG.recognizers[c.recognizer].model for c in RECOGNITION if isinstance(CONFIG.recognizers[c.recognizer], TaggerRecognizer)}
    | {CONFIG.linkers[name].weights for name in USED_LINKERS if CONFIG.linkers[name].weights}
    | {CONFIG.generators[g].model for g in USED_GENERATORS if g in LLMS and CONFIG.generators[g].model}
)

if workflow.is_main_process:
    with ending():
        for name in USED_MODELS:
            refuse_other(name, CONFIG.models[name], Path(RESOURCES) / "models" / name, lambda: recorded_outputs(Path(".snakemake/metadata")))

CORPUS_TABLES = [f"{R}/corpora/{{corpus}}/{table}.parquet" for table in ("documents", "mentions")]
SYNTHETIC_TABLES = [f"{R}/generation/{{generator}}/{table}.parquet" for table in ("located", "mentions")]

EVALUATED = sorted(
    {f"{R}/evaluation/recognition/{c.corpus}.parquet" for c in [*RECOGNITION, *CROSS]}
    | {f"{R}/evaluation/normalization/{c.corpus}.parquet" for c in NORMALIZATION}
)
RECOGNITION_ERRORS = sorted({f"{R}/evaluation/recognition/{c.corpus}.errors.parquet" for c in [*RECOGNITION, *CROSS]})
NORMALIZATION_ERRORS = sorted({f"{R}/evaluation/normalization/{c.corpus}.errors.parquet" for c in NORMALIZATION})
SCORED_END_TO_END = sorted({f"{R}/evaluation/end_to_end/{c.corpus}.parquet" for c, _, _ in END_TO_END})
COMPARED = sorted(
    f"{R}/statistics/{task}/{corpus}/{table}.parquet"
    for task, cells in (("recognition", RECOGNITION), ("normalization", NORMALIZATION))
    for corpus in {c.corpus for c in cells}
    for table in ("comparisons", "changes")
)
ALL_PREDICTIONS = [
    f"{R}/recognition/{c.corpus}/{c.generator}/{c.strategy}/{c.recognizer}/{c.schedule}/seed{c.seed}/predictions.parquet" for c in [*RECOGNITION, *CROSS]
] + [f"{R}/normalization/{c.corpus}/{c.generator}/{c.strategy}/{c.linker}/{c.index}/predictions.parquet" for c in NORMALIZATION]
ALL_CHOSEN = sorted({f"{R}/augmentation/{c.corpus}/{c.generator}/{c.strategy}/notes.parquet" for c in CELLS if c.strategy != NONE})
ALL_GENERATION = [
    f"{R}/generation/{g}/{file}"
    for g in USED_GENERATORS
    for file in ("prompts.parquet", "notes.parquet", "located.parquet", "mentions.parquet", "rejected.parquet", "funnel.json")
]
ALL_CARDS = [f"{R}/corpora/{c}/card.md" for c in USED_CORPORA]
ALL_TABLES = [f"{R}/corpora/{c}/{file}" for c in USED_CORPORA for file in ("documents.parquet", "mentions.parquet", "stats.json")] + [
    f"{R}/kb/{kb}/{file}"
    for kb in USED_KBS
    for file in ("concepts.parquet", "names.parquet", "definitions.parquet", "xrefs.parquet", "retired.parquet", "stats.json")
]


def image():
    """The image that jobs run in with --sdm apptainer."""
    path = os.environ.get("MENTIONFORGE_IMAGE", str(Path(workflow.basedir) / "docker" / "mentionforge.sif"))
    if " " in path:
        raise WorkflowError(f"error: blank in the path of the image: {path}: Snakemake takes none; put it elsewhere and name it in MENTIONFORGE_IMAGE")
    return path


def one_of(names):
    """Wildcard constraint that admits exactly the given names."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


wildcard_constraints:
    kb=one_of(CONFIG.kbs),
    corpus=one_of(CONFIG.corpora),
    generator=one_of(CONFIG.generators),
    strategy=one_of(set(CONFIG.strategies) - {NONE}),
    recognizer=one_of(CONFIG.recognizers),
    linker=one_of(CONFIG.linkers),
    encoder=one_of([*set(SEARCHING).difference(ALIGNED), *(f"{linker}@{corpus}" for linker in ALIGNED for corpus in CONFIG.corpora)]),
    index=one_of(CONFIG.indexes),
    model=one_of(CONFIG.models),
    download=one_of(CONFIG.downloads),
    task="recognition|normalization",
    kind=one_of(["kbs", "corpora", "generators", "strategies", "recognizers", "linkers", "indexes", "parts", *versions.OWN_SPECS]),
    entry=rf"{NAME_PATTERN}(/[a-z]+)?",
    seed=r"\d+",
    shard=r"\d+",
    shards=r"\d+",


def spec_of(kind, entry="{name}"):
    """Path of the spec file of an entry; `entry` may hold wildcards."""
    return f"{R}/specs/{kind}/{entry}.json"


def raised(*parts):
    """Input function: spec files of parts of the code whose version is above their first and stands in no entry's spec; names may hold wildcards."""

    def specs(wildcards):
        return [spec_of("parts", name) for name in (part.format(**dict(wildcards.items())) for part in parts) if versions.raised(name)]

    return specs


def raised_of_chain(wildcards):
    """As `raised`, for the filters of a generator's chain."""
    return raised(*(f"filter.{name}" for name, _ in CONFIG.generators[wildcards.generator].filters.chain()))(wildcards)


def raised_of_backend(wildcards):
    """As `raised`, for what writes a generator's notes."""
    return raised(f"backend.{CONFIG.generators[wildcards.generator].backend.kind}")(wildcards)


def raised_of_control(wildcards):
    """As `raised`, for how the notes of a control are made."""
    return raised("generation.replay" if CONFIG.generators[wildcards.generator].kind == "replay" else "generation.control")(wildcards)


def raised_of_replay(wildcards):
    """As `raised`, for prompts that are read from the notes to replay."""
    return raised("generation.replay")(wildcards) if CONFIG.generators[wildcards.generator].kind == "replay" else []


def spec_content(wildcards):
    """Text of the spec file that the wildcards name."""
    return spec_text(CONFIG, wildcards.kind, wildcards.entry)


def model_settings(wildcards):
    """Where the weights of a model come from, as JSON; of a local folder also what changes with its files, which makes the fetch run again."""
    model = CONFIG.models[wildcards.model]
    text = model.model_dump_json(exclude_none=True, exclude_defaults=True)
    return [text, "--seen", watched(model, Path(RESOURCES) / "models" / wildcards.model)] if model.path else text


def download_settings(wildcards):
    """Where a published file comes from, as JSON."""
    return CONFIG.downloads[wildcards.download].model_dump_json(exclude_none=True)


def input_files(kind, name):
    """Files of a kb or corpus: those that exist or can be fetched; else, for licensed input, a job that says how to get it."""
    entry = getattr(CONFIG, kind)[name]
    files = []
    for path in map(Path, CONFIG.files(kind, name)):
        if path.is_dir():
            files.extend(str(p) for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith("."))
        elif path.exists() or str(path).startswith(f"{RESOURCES}/downloads/"):
            files.append(str(path))
        elif entry.licensed:
            return [f"{R}/missing/{kind}/{name}"]
        else:
            files.append(str(path))
    return files


def kb_files(wildcards):
    """Input files of a knowledge base."""
    return input_files("kbs", wildcards.kb)


def corpus_files(wildcards):
    """Input files of a corpus."""
    return input_files("corpora", wildcards.corpus)


def model_of(kind):
    """Input function: the fetched weights of the entry of `kind` (generators, recognizers, linkers) in the wildcards."""

    def stamp(wildcards):
        entry = getattr(CONFIG, kind)[getattr(wildcards, kind[:-1])]
        return f"{RESOURCES}/models/{entry.model}/fetched.json"

    return stamp


def weights_of(wildcards):
    """The fetched weights of a generator, unless a server writes its notes."""
    name = CONFIG.generators[wildcards.generator].model
    return f"{RESOURCES}/models/{name}/fetched.json" if name and CONFIG.generators[wildcards.generator].backend.kind != "openai" else []


def from_checkout(wildcards):
    """The program run from this checkout, in an environment that pins other libraries and so cannot install it."""
    return f"PYTHONPATH={shlex.quote(str(Path(workflow.basedir) / 'workflow'))} python -m mentionforge.cli"


def kb_tables(kind, *tables):
    """Input function: tables of the knowledge base that the corpus or generator in the wildcards names."""

    def paths(wildcards):
        name = wildcards.corpus if kind == "corpora" else wildcards.generator
        return [f"{R}/kb/{getattr(CONFIG, kind)[name].kb}/{table}.parquet" for table in tables]

    return paths


def flags(**roles):
    """Params function: command-line flags for inputs that may be absent or many, `--role path` for each path."""

    def text(wildcards, input):
        pairs = [(flag, path) for role, flag in roles.items() for path in as_list(input.get(role, []))]
        return " ".join(f"{flag} {shlex.quote(str(path))}" for flag, path in pairs)

    return text


def folder_flags(**roles):
    """Params function: command-line flags for the folders of tables that may be absent."""

    def text(wildcards, input):
        return " ".join(f"{flag} {shlex.quote(str(Path(as_list(input.get(role))[0]).parent))}" for role, flag in roles.items() if input.get(role))

    return text


def as_list(value):
    """A single path as a list of one."""
    return [value] if isinstance(value, str) else list(value)


def parent_of(role):
    """Params function: the folder that an input's tables lie in."""

    def folder(wildcards, input):
        return str(Path(as_list(input.get(role))[0]).parent)

    return folder


def licensed_hint(wildcards):
    """What to do to obtain a licensed input."""
    return getattr(CONFIG, wildcards.kind)[wildcards.name].licensed


def concepts_corpus(wildcards):
    """Mentions of the corpus by whose training split a generator chooses its concepts, if it does."""
    corpus = CONFIG.generators[wildcards.generator].concepts.corpus
    return f"{R}/corpora/{corpus}/mentions.parquet" if corpus else []


def concepts_list(wildcards):
    """The file that lists a generator's concepts, if there is one."""
    return CONFIG.generators[wildcards.generator].concepts.cuis or []


def finetune_corpus(wildcards):
    """Tables of the corpus whose training split a generator is fine-tuned on."""
    corpus = CONFIG.generators[wildcards.generator].finetune.corpus
    return [f"{R}/corpora/{corpus}/{table}.parquet" for table in ("documents", "mentions")]


def adapter_of(wildcards):
    """The adapter, for a generator that is fine-tuned."""
    return f"{R}/generation/{wildcards.generator}/adapter" if CONFIG.generators[wildcards.generator].finetune else []


def teacher_of(wildcards):
    """The real-only model of the same corpus, recognizer and seed, for schedules that read synthetic notes with it."""
    w = wildcards
    return f"{R}/recognition/{w.corpus}/none/none/{w.recognizer}/real_only/seed{w.seed}/model" if w.schedule in TAUGHT else []


def shards_of(wildcards):
    """All shards of a generator."""
    n = CONFIG.generators[wildcards.generator].shards
    return [f"{R}/generation/{wildcards.generator}/shards/{i}-of-{n}.parquet" for i in range(n)]


def encoder_name(linker, corpus):
    """Where a linker's embeddings lie: an encoder that is trained here is another one for each corpus."""
    return f"{linker}@{corpus}" if linker in ALIGNED else linker


def shared_encoder(linker, corpus):
    """Where a linker's embeddings of names and notes lie: linkers that differ in reading abbreviations alone, which only a corpus has, share them."""
    if linker in ALIGNED:
        return encoder_name(linker, corpus)
    settings = CONFIG.linkers[linker].model_dump(exclude={"expand_abbreviations", "steps"})
    return next(name for name, entry in CONFIG.linkers.items() if entry.model_dump(exclude={"expand_abbreviations", "steps"}) == settings)


def encoder_spec(wildcards):
    """Spec of the linker that an encoder belongs to."""
    return spec_of("linkers", wildcards.encoder.partition("@")[0])


def encoder_weights(wildcards):
    """Weights of an encoder: fetched, trained here, or none for a linker without an encoder."""
    linker, _, corpus = wildcards.encoder.partition("@")
    if corpus:
        return f"{R}/alignment/{linker}/{corpus}/fetched.json"
    model = CONFIG.linkers[linker].weights
    return f"{RESOURCES}/models/{model}/fetched.json" if model else []


def embedded_corpus(wildcards):
    """Embedded mentions of the corpus in the wildcards, by its linker."""
    return f"{R}/embeddings/{encoder_name(wildcards.linker, wildcards.corpus)}/corpus.{wildcards.corpus}/entries.parquet"


def embedded_kb(wildcards):
    """Embedded names of the corpus' knowledge base."""
    return f"{R}/embeddings/{shared_encoder(wildcards.linker, wildcards.corpus)}/kb.{CONFIG.corpora[wildcards.corpus].kb}/entries.parquet"


def embedded_generator(wildcards):
    """Embedded synthetic mentions of the generator in the wildcards."""
    return f"{R}/embeddings/{shared_encoder(wildcards.linker, wildcards.corpus)}/generator.{wildcards.generator}/entries.parquet"


def ngram_weights(wildcards):
    """The embedded names, for a linker that weighs them."""
    return embedded_kb(wildcards) if CONFIG.linkers[wildcards.linker].weighs_names else []


def found_names(wildcards):
    """What the search of the names found, where the index uses them: indexes that admit the same names share one search."""
    if "kb" not in CONFIG.indexes[wildcards.index].sources:
        return []
    first = next(name for name, entry in CONFIG.indexes.items() if "kb" in entry.sources and same_names(entry, CONFIG.indexes[wildcards.index]))
    return f"{R}/retrieval/{wildcards.corpus}/{wildcards.linker}/{first}/found.parquet"


def preferred_codes(wildcards):
    """Codes of the corpus' knowledge base, where the index prefers some."""
    return f"{R}/kb/{CONFIG.corpora[wildcards.corpus].kb}/xrefs.parquet" if CONFIG.indexes[wildcards.index].prefer_xrefs else []


def parts(file):
    """Input function: this file of each linker that a linker reads, on the same cell."""

    def paths(wildcards):
        cell = f"{R}/normalization/{wildcards.corpus}/{wildcards.generator}/{wildcards.strategy}"
        return [f"{cell}/{part}/{wildcards.index}/{file}.parquet" for part in CONFIG.linkers[wildcards.linker].parts()]

    return paths


def first_stage(paths):
    """Input function: what `paths` gives for the linker that searches below a reranker, on the reranker's index of wrong candidates."""

    def of_reranker(wildcards):
        entry = CONFIG.linkers[wildcards.linker]
        (first,) = entry.parts()
        linker = next(iter(CONFIG.linkers[first].parts()), first)
        return paths(SimpleNamespace(corpus=wildcards.corpus, linker=linker, index=entry.index_of_negatives))

    return of_reranker


def aligned_synthetic(wildcards):
    """Tables of the generator whose mentions an encoder is trained on, if there is one."""
    generator = CONFIG.linkers[wildcards.linker].train.synthetic
    return [f"{R}/generation/{generator}/{table}.parquet" for table in ("located", "mentions")] if generator else []


def recognition_predictions(wildcards):
    """Predictions of all recognition cells of a corpus."""
    return [
        f"{R}/recognition/{c.corpus}/{c.generator}/{c.strategy}/{c.recognizer}/{c.schedule}/seed{c.seed}/predictions.parquet"
        for c in RECOGNITION
        if c.corpus == wildcards.corpus
    ]


def cross_predictions(wildcards):
    """Predictions on a corpus by models trained on another one."""
    return [
        f"{R}/recognition/{c.corpus}/{c.generator}/{c.strategy}/{c.recognizer}/{c.schedule}/seed{c.seed}/predictions.parquet"
        for c in CROSS
        if c.corpus == wildcards.corpus
    ]


def cross_sources(wildcards):
    """Mentions of the corpora that these models were trained on: what they saw makes their buckets."""
    sources = sorted({c.schedule.partition(TRAINED_ON)[2] for c in CROSS if c.corpus == wildcards.corpus})
    return [f"{R}/corpora/{source}/mentions.parquet" for source in sources]


def source_flags(wildcards, input):
    """Folders of these corpora, as command-line flags."""
    return " ".join(f"--source {shlex.quote(str(Path(path).parent))}" for path in as_list(input.get("sources", [])))


def dictionary_names(wildcards):
    """Names of the corpus' knowledge base, where a dictionary reads them."""
    kb = CONFIG.corpora[wildcards.corpus].kb
    return f"{R}/kb/{kb}/names.parquet" if "kb" in CONFIG.recognizers[wildcards.recognizer].sources else []


def linker_weights(wildcards):
    """Weights of a linker's encoder for the corpus in the wildcards, if it has one."""
    if wildcards.linker in ALIGNED:
        return f"{R}/alignment/{wildcards.linker}/{wildcards.corpus}/fetched.json"
    model = getattr(CONFIG.linkers[wildcards.linker], "model", None)
    return f"{RESOURCES}/models/{model}/fetched.json" if model else []


def names_or_weights(wildcards):
    """The embedded names, where the index searches them or a tfidf linker takes its weights from them."""
    return embedded_kb(wildcards) if "kb" in CONFIG.indexes[wildcards.index].sources else ngram_weights(wildcards)


def searched_names(table):
    """Input function: a table of the corpus' knowledge base, where the index searches its names or prefers some of its codes."""

    def path(wildcards):
        index = CONFIG.indexes[wildcards.index]
        needed = "kb" in index.sources or (table == "xrefs" and index.prefer_xrefs)
        return f"{R}/kb/{CONFIG.corpora[wildcards.corpus].kb}/{table}.parquet" if needed else []

    return path


def chosen_mentions(wildcards):
    """The generator's embedded mentions, for a cell with synthetic text."""
    return [] if wildcards.strategy == NONE else embedded_generator(wildcards)


def chosen_of_cell(wildcards):
    """The notes that the strategy adds to the corpus, for a cell with synthetic text."""
    w = wildcards
    return [] if w.strategy == NONE else f"{R}/augmentation/{w.corpus}/{w.generator}/{w.strategy}/notes.parquet"


def linked_predictions(wildcards):
    """Rankings of all end-to-end cells of a corpus."""
    return [
        f"{R}/end_to_end/{c.corpus}/{c.generator}/{c.strategy}/{c.recognizer}/{c.schedule}/seed{c.seed}/{linker}/{index}/linked.parquet"
        for c, linker, index in END_TO_END
        if c.corpus == wildcards.corpus
    ]


def normalization_predictions(wildcards):
    """Predictions of all normalization cells of a corpus."""
    return [
        f"{R}/normalization/{c.corpus}/{c.generator}/{c.strategy}/{c.linker}/{c.index}/predictions.parquet"
        for c in NORMALIZATION
        if c.corpus == wildcards.corpus
    ]


def normalization_calibrations(wildcards):
    """Rankings of dev mentions and unmapped test mentions of all normalization cells of a corpus."""
    return [str(Path(path).with_name("calibration.parquet")) for path in normalization_predictions(wildcards)]


def encoder_of(part):
    """Input function: weights of the encoder, where this part of the generator's settings needs one."""

    def stamp(wildcards):
        g = CONFIG.generators[wildcards.generator]
        needed = g.filters.agreement if part == "filter" else g.locate.tag_similarity is not None
        return f"{RESOURCES}/models/{g.encoder.model}/fetched.json" if needed else []

    return stamp


def pairs_of(wildcards):
    """The fine-tuning pairs, for a generator whose notes are compared with them."""
    return f"{R}/generation/{wildcards.generator}/pairs.parquet" if CONFIG.generators[wildcards.generator].filters.memorization else []


def leakage_corpora(wildcards):
    """Documents of the corpora whose test split the notes are compared with."""
    leakage = CONFIG.generators[wildcards.generator].filters.leakage
    return [f"{R}/corpora/{corpus}/documents.parquet" for corpus in (leakage.corpora if leakage else ())]


def leakage_flags(wildcards, input):
    """Folders of these corpora, as command-line flags."""
    return " ".join(f"--corpus {shlex.quote(str(Path(path).parent))}" for path in as_list(input.get("corpora", [])))


def licensed_flag(wildcards):
    """A flag that keeps texts out of the examples, where one of a generator's inputs is licensed."""
    g = CONFIG.generators[wildcards.generator]
    finetune = getattr(g, "finetune", None)
    corpora = {*(g.filters.leakage.corpora if g.filters.leakage else ()), *({finetune.corpus} if finetune else ())}
    return "--licensed" if licensed_text(wildcards.generator) or any(is_licensed("corpora", corpus) for corpus in corpora) else ""


def replayed(wildcards):
    """The file of a replayed corpus: as it is, or a job that says how to obtain it."""
    g = CONFIG.generators[wildcards.generator]
    if g.kind != "replay":
        return []
    return f"{R}/missing/generators/{wildcards.generator}" if g.licensed and not Path(g.path).exists() else g.path


def is_recognition(wildcards):
    """Whether the task in the wildcards is recognition."""
    return wildcards.task == "recognition"


def chosen_notes(wildcards):
    """The notes that each strategy adds to the corpus, for all generators of the task's cells."""
    cells = RECOGNITION if is_recognition(wildcards) else NORMALIZATION
    augmented = {(c.generator, c.strategy) for c in cells if c.corpus == wildcards.corpus and c.strategy != NONE}
    return [f"{R}/augmentation/{wildcards.corpus}/{generator}/{strategy}/notes.parquet" for generator, strategy in sorted(augmented)]


def reference_flags(wildcards):
    """What cells are compared with besides the baseline: the controls, and for an index without the knowledge base the one with it."""
    sources = {name: set(index.sources) for name, index in CONFIG.indexes.items()}
    pairs = [f"{a}={b}" for a in sorted(sources) for b in sorted(sources) if "kb" not in sources[a] and sources[b] == sources[a] | {"kb"}]
    controls = [g for g in CONTROLS if CONFIG.generators[g].kind != "replay"]
    return shlex.join([*(part for c in controls for part in ("--control", c)), *(part for pair in pairs for part in ("--with-kb", pair))])


def leakage_settings(wildcards):
    """The guard against leakage, as JSON."""
    return CONFIG.leakage.model_dump_json()


def finetune_pairs(wildcards):
    """The pairs that a generator is fine-tuned on, if it is."""
    tuned = getattr(CONFIG.generators[wildcards.generator], "finetune", None)
    return f"{R}/generation/{wildcards.generator}/pairs.parquet" if tuned else []


def finetune_documents(wildcards):
    """Documents of the corpus that a generator is fine-tuned on, if it is."""
    tuned = getattr(CONFIG.generators[wildcards.generator], "finetune", None)
    return f"{R}/corpora/{tuned.corpus}/documents.parquet" if tuned else []


def finetuned_on_flag(wildcards, input):
    """Folder of that corpus, as a command-line flag."""
    return " ".join(f"--finetuned-on {shlex.quote(str(Path(path).parent))}" for path in as_list(input.get("finetuned_on", [])))


def licensed_entries(wildcards):
    """Command-line flags that name the licensed entries, whose texts the page leaves out, and whether it is private."""
    found = [f"kbs/{kb}" for kb in USED_KBS if is_licensed("kbs", kb)] + [f"corpora/{c}" for c in USED_CORPORA if is_licensed("corpora", c)]
    found += [f"generators/{g}" for g in USED_GENERATORS if licensed_text(g)]
    return shlex.join([*(part for entry in found for part in ("--licensed", entry)), *(["--private"] if CONFIG.report.private else [])])


def is_licensed(kind, name):
    """Whether the texts of a kb or corpus are not for everybody: said to be licensed, or neither the repository's own nor a published download."""
    shown = (f"{RESOURCES}/demo/", f"{RESOURCES}/downloads/", "resources/demo/")
    return bool(getattr(getattr(CONFIG, kind)[name], "licensed", None)) or not all(str(Path(path)).startswith(shown) for path in CONFIG.files(kind, name))


def licensed_text(generator):
    """Whether a generator's notes may hold licensed text: its own, its knowledge base's, or that of the corpus it was fine-tuned on."""
    g = CONFIG.generators[generator]
    finetune = getattr(g, "finetune", None)
    return bool(getattr(g, "licensed", None)) or is_licensed("kbs", g.kb) or (finetune is not None and is_licensed("corpora", finetune.corpus))


# ------------------------------------------------------------------------------------------------------------ external


def external_path(kind):
    """Params function: the file or folder of an external entry for the corpus in the wildcards."""

    def path(wildcards):
        return getattr(CONFIG, kind)[getattr(wildcards, kind[:-1])].path_for(wildcards.corpus)

    return path


def external_files(kind):
    """Input function: that file, or the files of that folder."""

    def files(wildcards):
        return files_below(external_path(kind)(wildcards))

    return files


def replaced_ids(wildcards):
    """The corpus' replacements of ids, if it has some."""
    return CONFIG.corpora[wildcards.corpus].id_map or []
