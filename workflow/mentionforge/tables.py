"""The contracts between stages: columns, types, units and keys of every Parquet table.

In: nothing. Out: one declaration per table, which `parquet.write` and `parquet.read` check. Offsets are 0-based characters of `text`, end exclusive. Rows
are sorted by key, so that equal content gives equal bytes. Knows nothing of how tables are computed.
"""

from __future__ import annotations

import pyarrow as pa

from mentionforge.parquet import BOOL as BOOL
from mentionforge.parquet import FLOAT as FLOAT
from mentionforge.parquet import INT as INT
from mentionforge.parquet import METADATA_KEY as METADATA_KEY
from mentionforge.parquet import SPAN as SPAN
from mentionforge.parquet import STR as STR
from mentionforge.parquet import STRINGS as STRINGS
from mentionforge.parquet import Column as Column
from mentionforge.parquet import Table as Table
from mentionforge.parquet import Writer as Writer
from mentionforge.parquet import build as build
from mentionforge.parquet import provenance as provenance
from mentionforge.parquet import read as read
from mentionforge.parquet import write as write
from mentionforge.versions import VERSIONED_CODE

SPLITS = ("train", "dev", "test")
BUCKETS = ("seen_mention", "seen_concept", "unseen_concept", "unmapped")
SUBSETS = ("new_pair", "new_surface", "new_surface_concept", "one_concept", "distinct", "distinct_new_surface")
MATCHES = ("tag", "exact", "synonym", "fuzzy")
GOLD = "gold"
"""`match` of a gold mention that the note's text had before: a mention for recognition, and none of the note's concept."""
FILTERS = tuple(part.removeprefix("filter.") for part in VERSIONED_CODE if part.startswith("filter."))
REASONS = ("empty", "no_mention", *FILTERS)
AGAINST = ("baseline", "control", "kb", "external")
SLICES = ("all", "bucket", "subset", "train_mentions", "names", "semantic_type", "notes")
CONCEPT_ID = "concept id: a UMLS CUI, or an id with its prefix (HP:0001250)"

CONCEPTS = Table(
    "concepts",
    "One row per concept of a knowledge base.",
    (
        Column("cui", STR, CONCEPT_ID),
        Column("preferred_name", STR, "name by term-type rank"),
        Column("definition", STR, "first definition by source preference", nullable=True),
        Column("semantic_types", STRINGS, "type unique identifiers (T047), sorted"),
    ),
    ("cui",),
)
NAMES = Table(
    "names",
    "One row per concept, name and source; a name may belong to several concepts.",
    (
        Column("cui", STR, CONCEPT_ID),
        Column("name", STR, "name as the source writes it"),
        Column("source", STR, "source vocabulary (SAB) or ontology"),
        Column("term_type", STR, "term type (TTY), or exact/related synonym kind"),
        Column("preferred", BOOL, "whether it is the concept's preferred name"),
    ),
    ("cui", "name", "source", "term_type"),
)
DEFINITIONS = Table(
    "definitions",
    "All definitions of a concept, the preferred one first.",
    (
        Column("cui", STR, CONCEPT_ID),
        Column("rank", INT, "1 is the one in concepts; then by preference of sources"),
        Column("source", STR, "source vocabulary (SAB) or ontology"),
        Column("definition", STR, "text as the source gives it"),
    ),
    ("cui", "rank"),
)
RETIRED = Table(
    "retired",
    "CUIs of older releases, and the concepts that stand for them now.",
    (
        Column("retired", STR, "CUI that is no longer in use"),
        Column("relation", STR, "MRCUI.REL: SY synonym, RB broader, RN narrower, RO other, DEL deleted"),
        Column("cui", STR, "concept of the knowledge base; empty for a deleted CUI"),
    ),
    ("retired", "relation", "cui"),
)
XREFS = Table(
    "xrefs",
    "Codes of source vocabularies and the concepts they stand for; one-to-many on purpose.",
    (
        Column("source", STR, "vocabulary: MSH, OMIM, …"),
        Column("code", STR, "code without prefix"),
        Column("cui", STR, CONCEPT_ID),
        Column("via", STR, "which file or map gave the row"),
    ),
    ("source", "code", "cui", "via"),
)
PARENTS = Table(
    "parents",
    "Direct parents of concepts by source; sources need not agree, so that there may be cycles.",
    (
        Column("cui", STR, "concept of the knowledge base"),
        Column("parent", STR, "concept directly above it; in a release it may lie outside the knowledge base"),
        Column("source", STR, "ontology or source vocabulary (SAB) that says so"),
    ),
    ("cui", "parent", "source"),
)
DOCUMENTS = Table(
    "documents",
    "Texts of a corpus.",
    (
        Column("doc_id", STR, "identifier in the corpus"),
        Column("split", STR, "fixed split", values=SPLITS),
        Column("text", STR, "text as published"),
        Column("sentences", pa.list_(SPAN), "sentence spans, without surrounding blanks, in order; made without looking at gold"),
    ),
    ("doc_id",),
)
MENTIONS = Table(
    "mentions",
    "Gold mentions of a corpus.",
    (
        Column("doc_id", STR, "document"),
        Column("mention_id", STR, "identifier, unique in the corpus"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("spans", pa.list_(SPAN), "pieces in rising order"),
        Column("surface", STR, "pieces' text, joined by one blank"),
        Column("expanded", STR, "surface with the document's own abbreviations spelled out; null where there is none", nullable=True),
        Column("entity_type", STR, "type as annotated"),
        Column("concept_ids", STRINGS, "ids as annotated, with vocabulary prefix (MSH:D…, OMIM:…, CUI:…)"),
        Column("cuis", STRINGS, "all CUIs that the ids map to, sorted; empty: unmapped"),
        Column("concept_cuis", pa.list_(STRINGS), "CUIs of each of concept_ids, in that order, each list sorted"),
        Column("composite", BOOL, "whether it names several concepts"),
        Column("ood_bucket", STR, "against the training split", values=BUCKETS),
    ),
    ("doc_id", "mention_id"),
)
PROMPTS = Table(
    "prompts",
    "What the generator is asked, one row per note to write.",
    (
        Column("note_id", STR, "CUI and number: C0000001-0"),
        Column("cui", STR, "concept to mention"),
        Column("prompt", STR, "instruction, before the chat template"),
        Column("has_definition", BOOL, "prompt form with or without definition"),
        Column("seed", INT, "seed of this note's own random stream"),
    ),
    ("note_id",),
)
PAIRS = Table(
    "pairs",
    "Fine-tuning pairs from a corpus' training split.",
    (
        Column("pair_id", STR, "mention id of the pair"),
        Column("doc_id", STR, "training document"),
        Column("cui", STR, "concept; empty when CUI-less", nullable=True),
        Column("prompt", STR, "instruction"),
        Column("completion", STR, "sentences with the mention in tags"),
    ),
    ("pair_id",),
)
NOTES = Table(
    "notes",
    "Generated notes as written, tags included.",
    (
        Column("note_id", STR, "as in prompts"),
        Column("cui", STR, "concept asked for"),
        Column("generator", STR, "name of the generator"),
        Column("prompt", STR, "instruction"),
        Column("text", STR, "raw output of the generator"),
        Column("seed", INT, "seed of the note"),
        Column("finish_reason", STR, "why writing ended", values=("stop", "length", "content_filter", "control", "replay")),
        Column("tokens", INT, "tokens written"),
    ),
    ("note_id",),
)
LOCATED = Table(
    "located",
    "Notes with marker text removed, and their sentences; only notes with at least one located mention.",
    (
        Column("note_id", STR, "as in notes"),
        Column("cui", STR, "concept asked for"),
        Column("text", STR, "text without tags"),
        Column("sentences", pa.list_(SPAN), "sentence spans"),
    ),
    ("note_id",),
)
SYNTHETIC_MENTIONS = Table(
    "synthetic_mentions",
    "Located mentions, spans into `located.text`.",
    (
        Column("note_id", STR, "as in notes"),
        Column("start", INT, "first character"),
        Column("end", INT, "one past the last character"),
        Column("cui", STR, "concept; of a gold mention empty unless it has exactly one"),
        Column("surface", STR, "text of the span"),
        Column("match", STR, "how it was found; gold: a mention of the corpus that the note's sentence is from", values=(*MATCHES, GOLD)),
        Column("score", FLOAT, "similarity to the name it matched, 0 to 100"),
    ),
    ("note_id", "start", "end"),
)
REJECTED = Table(
    "rejected",
    "Notes dropped after generation, and why.",
    (
        Column("note_id", STR, "as in notes"),
        Column("cui", STR, "concept asked for"),
        Column("reason", STR, "why it was dropped: by location, or the first filter that did", values=REASONS),
    ),
    ("note_id",),
)
CHOSEN = Table(
    "chosen",
    "The synthetic notes that a strategy adds to a corpus.",
    (Column("note_id", STR, "as in notes"), Column("cui", STR, "concept of the note")),
    ("note_id",),
)
RECOGNIZED = Table(
    "recognized",
    "Predicted mentions of a recognizer on the dev and test splits.",
    (
        Column("doc_id", STR, "document"),
        Column("start", INT, "first character"),
        Column("end", INT, "one past the last character"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("score", FLOAT, "mean probability of the tokens' labels"),
    ),
    ("doc_id", "start", "end"),
)
EMBEDDED = Table(
    "embedded",
    "What was embedded from a source: one row per name, gold mention or synthetic mention.",
    (
        Column("entry_id", STR, "kb: kb|number; corpus: mention id; generator: note id:start-end"),
        Column("text", STR, "name or surface form"),
        Column("vector", INT, "row of vectors.npy; entries with the same input share it"),
        Column("cuis", STRINGS, "concepts the entry stands for, sorted; none for a mention without a concept"),
        Column("split", STR, "split of a gold mention", nullable=True, values=SPLITS),
        Column("note_id", STR, "note of a synthetic mention", nullable=True),
    ),
    ("entry_id",),
)
LINKED = Table(
    "linked",
    "Ranked concepts of each query, ranks 1 to at most 100 without gaps.",
    (
        Column("mention_id", STR, "gold mention; of the test split, with a concept, in predictions"),
        Column("rank", INT, "1 is best"),
        Column("cui", STR, "predicted concept"),
        Column("score", FLOAT, "similarity of the concept's best entry, higher is better"),
        Column("entry", STR, "all concepts of that entry, joined by |: more than one if its name or mention is ambiguous"),
    ),
    ("mention_id", "rank"),
)
RETRIEVED = Table(
    "found",
    "What a search of one source gives each distinct query of a corpus: at least its first 100 concepts, and all that may tie with the last.",
    (
        Column("query", INT, "row of the corpus' distinct inputs (embedded.vector)"),
        Column("cui", STR, "concept"),
        Column("rank", INT, "place among the query's concepts, from 1"),
        Column("score", FLOAT, "similarity of the concept's best entry, higher is better; not levelled: equal scores may differ in their last digits"),
        Column("votes", INT, "entries of the concept that count as equal to the best"),
        Column("entry", STR, "all concepts of the best entry, joined by |"),
    ),
    ("query", "cui"),
)
METRICS = Table(
    "metrics",
    "Tidy metrics: one row per cell, bucket and metric. Cell columns that do not apply are empty strings.",
    (
        Column("task", STR, "what is scored", values=("recognition", "normalization", "end_to_end")),
        Column("corpus", STR, "corpus"),
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "recognizer or linker; end to end: RECOGNIZER/LINKER"),
        Column("variant", STR, "recognition: schedule; normalization: index; end to end: SCHEDULE/INDEX"),
        Column("seed", INT, "seed of the training; 0 where nothing is trained"),
        Column("split", STR, "split scored", values=SPLITS),
        Column("bucket", STR, "all, an out-of-distribution bucket, or a subset that others score (SUBSETS)"),
        Column("metric", STR, "name of the metric"),
        Column("value", FLOAT, "0 to 1; null where n is 0", nullable=True),
        Column("n", INT, "gold mentions (recall, accuracy; distinct ones in some subsets) or predictions (precision) it rests on"),
    ),
    ("task", "corpus", "generator", "strategy", "system", "variant", "seed", "split", "bucket", "metric"),
)

ERRORS = ("missed", "boundary", "spurious")
RECOGNITION_ERRORS = Table(
    "recognition_errors",
    "What recognizers get wrong on dev and test: a row per gold mention not found with both its ends, and per prediction that overlaps no gold mention.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "recognizer"),
        Column("variant", STR, "schedule"),
        Column("seed", INT, "seed of the training"),
        Column("split", STR, "split of the document", values=SPLITS),
        Column("doc_id", STR, "document"),
        Column("error", STR, "missed: no prediction overlaps it; boundary: one does; spurious: no gold mention", values=ERRORS),
        Column("start", INT, "first character of the gold mention, or of the spurious prediction"),
        Column("end", INT, "one past its last character"),
        Column("words", INT, "its length in words"),
        Column("bucket", STR, "bucket of the gold mention", nullable=True, values=BUCKETS),
        Column("predicted_start", INT, "boundary: first character of the prediction that shares most words with it", nullable=True),
        Column("predicted_end", INT, "boundary: one past its last character", nullable=True),
    ),
    ("generator", "strategy", "system", "variant", "seed", "split", "doc_id", "error", "start", "end"),
)

RELATIONS = ("ancestor", "descendant", "sibling", "unrelated", "unplaced", "missing")
NORMALIZATION_ERRORS = Table(
    "normalization_errors",
    "Test mentions that linkers get wrong at rank 1, and what the first wrong concept is to the mention's; empty if the knowledge base has no hierarchy.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("system", STR, "linker"),
        Column("variant", STR, "index"),
        Column("mention_id", STR, "gold mention of the test split"),
        Column("predicted", STR, "first wrong concept; null if none is ranked", nullable=True),
        Column("gold", STR, "concept of the mention that it is nearest to; null if it is near none", nullable=True),
        Column("relation", STR, "what it is to that concept (evaluation.hierarchy)", values=RELATIONS),
        Column("distance", INT, "steps up to an ancestor, or down to a descendant", nullable=True),
    ),
    ("generator", "strategy", "system", "variant", "mention_id"),
)

ROLES = ("confirmatory", "exploratory")
COVERS = tuple(
    f"documents{generator}{training}" for training in ("", ", training seeds") for generator in ("", ", generator seeds of the cell", ", generator seeds")
)
CONTRAST = ("system", "variant", "generator", "strategy", "against", "reference_system", "reference_generator", "reference_strategy", "reference_variant")
"""Columns that identify a comparison of two cells of the same task, corpus and system."""

_CONTRAST_COLUMNS = (
    Column("system", STR, "recognizer or linker"),
    Column("variant", STR, "recognition: schedule; normalization: index"),
    Column("generator", STR, "generator, without its seed"),
    Column("strategy", STR, "strategy"),
    Column(
        "against",
        STR,
        "baseline: without synthetic text; control: another generator's text; kb: the dictionary in the index instead; external: another system",
        values=AGAINST,
    ),
    Column("reference_system", STR, "recognizer or linker of the cell compared with; the same one unless it is an external system"),
    Column("reference_generator", STR, "generator of the cell compared with, or none"),
    Column("reference_strategy", STR, "its strategy, or none"),
    Column("reference_variant", STR, "its schedule or index"),
)

COMPARISONS = Table(
    "comparisons",
    "Differences between two cells on the same test documents, overall and by group of mentions; one table per task and corpus.",
    (
        *_CONTRAST_COLUMNS,
        Column("slice", STR, "what the mentions are grouped by", values=SLICES),
        Column("group", STR, "all, a bucket, a subset, a semantic type, or a range of counts (2-5)"),
        Column("metric", STR, "name of the metric"),
        Column("value", FLOAT, "score of the cell, mean over its runs, 0 to 1"),
        Column("reference", FLOAT, "score of the cell compared with, 0 to 1"),
        Column("difference", FLOAT, "value minus reference"),
        Column("low", FLOAT, "lower limit of the difference; null with fewer than two documents", nullable=True),
        Column("high", FLOAT, "upper limit of the difference", nullable=True),
        Column("p", FLOAT, "approximate randomization, two-sided"),
        Column("role", STR, "confirmatory: declared before the run; exploratory: all others", values=ROLES),
        Column("family", STR, "comparisons of the task and corpus that are corrected together"),
        Column("family_size", INT, "how many these are"),
        Column("adjustment", STR, "holm: confirmatory families; bh (Benjamini-Hochberg): exploratory ones", values=("holm", "bh")),
        Column("p_adjusted", FLOAT, "p after the correction over the family"),
        Column("reachable", BOOL, "whether the documents and randomizations allow an adjusted p of statistics.alpha or less at all"),
        Column("resamples", INT, "randomizations that p rests on"),
        Column("n", INT, "gold mentions of the group"),
        Column("documents", INT, "documents with at least one of them: the unit that is resampled"),
        Column("runs", INT, "runs (seeds) of the cell"),
        Column("reference_runs", INT, "runs of the cell compared with"),
        Column("generator_seeds", INT, "generator seeds of the cell; 1 where its runs have the same notes"),
        Column("training_seeds", INT, "training seeds of the cell; 1 where there is one, or nothing to train"),
        Column("covers", STR, "what low, high and p hold: the choice of documents, and of the seeds of which there are several", values=COVERS),
        Column("fixed", FLOAT, "mentions right here and wrong there, mean over runs; null for F1, precision and mrr", nullable=True),
        Column("broken", FLOAT, "mentions wrong here and right there", nullable=True),
        Column("few", BOOL, "whether n is too small to conclude anything (fewer than 30, unless the config says otherwise)"),
    ),
    (*CONTRAST, "slice", "group", "metric"),
)
CHANGES = Table(
    "changes",
    "Test mentions that a cell fixes or breaks, against the cell compared with; one table per task and corpus.",
    (
        *_CONTRAST_COLUMNS,
        Column("mention_id", STR, "gold mention of the test split"),
        Column("change", STR, "fixed: right here and wrong there; broken: the reverse", values=("fixed", "broken")),
        Column("right", FLOAT, "share of runs that are right here"),
        Column("reference_right", FLOAT, "share of runs that are right there"),
        Column("predicted", STR, "normalization: first concept of the first run", nullable=True),
        Column("reference_predicted", STR, "normalization: first concept there", nullable=True),
    ),
    (*CONTRAST, "mention_id"),
)
NIL = Table(
    "nil",
    "Telling mentions without a concept from the others by the score of their first concept, per cell and threshold.",
    (
        Column("generator", STR, "generator or none"),
        Column("strategy", STR, "strategy or none"),
        Column("linker", STR, "linker"),
        Column("index", STR, "index"),
        Column("split", STR, "split scored", values=SPLITS),
        Column("threshold", FLOAT, "mentions whose first concept scores less, or that have none, are called NIL"),
        Column("precision", FLOAT, "share of the mentions called NIL that are unmapped; null where none is called so", nullable=True),
        Column("recall", FLOAT, "share of the unmapped mentions that are called NIL; null where there is none", nullable=True),
        Column("accuracy", FLOAT, "share of all mentions that are right: the first concept, or NIL; null where there is none", nullable=True),
        Column("n", INT, "mentions of the split"),
        Column("unmapped", INT, "those without a concept"),
        Column("chosen", BOOL, "whether it is the threshold with the best accuracy on dev, the lowest of equals"),
    ),
    ("generator", "strategy", "linker", "index", "split", "threshold"),
)

ALL = (
    CONCEPTS, NAMES, DEFINITIONS, XREFS, RETIRED, PARENTS, DOCUMENTS, MENTIONS, PROMPTS, PAIRS, NOTES, LOCATED, SYNTHETIC_MENTIONS, REJECTED, CHOSEN,
    RECOGNIZED, EMBEDDED, LINKED, RETRIEVED, METRICS, NIL, RECOGNITION_ERRORS, NORMALIZATION_ERRORS, COMPARISONS, CHANGES,
)  # fmt: skip
