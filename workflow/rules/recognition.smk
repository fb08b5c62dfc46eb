"""Recognition: token classification in IOB2, trained on a corpus and the chosen synthetic notes; a dictionary beside it.

REQUIRED INPUTS
    {results}/corpora/{corpus}/{documents,mentions}.parquet
    {results}/augmentation/{corpus}/{generator}/{strategy}/notes.parquet
    {results}/generation/{generator}/{located,mentions}.parquet
    {results}/recognition/{corpus}/none/none/{recognizer}/real_only/seed{seed}/model/ for schedules with a teacher
    {resources}/models/{model}/fetched.json
OUTPUTS
    {results}/recognition/{corpus}/{generator}/{strategy}/{recognizer}/{schedule}/seed{seed}/predictions.parquet, model/, history.csv
    {results}/recognition/{corpus}/{generator}/{strategy}/{recognizer}/{schedule}~train={source}/seed{seed}/predictions.parquet
    {results}/recognition/{corpus}/none/none/{recognizer}/untrained/seed0/predictions.parquet
"""

from mentionforge.dag.recognition import RecognitionInputs
from mentionforge.layout import RecognitionCell

RECOGNITION = RecognitionInputs(CONFIG)
REAL_RUN = RecognitionCell("{corpus}", NONE, NONE, "{recognizer}", "{schedule}", "{seed}")
AUGMENTED_RUN = RecognitionCell("{corpus}", "{generator}", "{strategy}", "{recognizer}", "{schedule}", "{seed}")
SOURCE_RUN = RecognitionCell("{source}", "{generator}", "{strategy}", "{recognizer}", "{schedule}", "{seed}")
CROSS_RUN = RecognitionCell("{corpus}", "{generator}", "{strategy}", "{recognizer}", f"{{schedule}}{TRAINED_ON}{{source}}", "{seed}")
UNTRAINED_RUN = RecognitionCell("{corpus}", NONE, NONE, "{recognizer}", UNTRAINED, 0)


rule recognize_real:
    """Train on the real training split alone, and predict dev and test: the baseline, once per corpus and seed."""
    input:
        spec=spec_of("recognizers", "{recognizer}"),
        model=model_of("recognizers"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        versions=raised("schedule.{schedule}"),
    output:
        predictions=RESULTS.recognition(REAL_RUN),
        model=directory(RESULTS.recognition(REAL_RUN, "model")),
        history=RESULTS.recognition(REAL_RUN, "history.csv"),
    log:
        RESULTS.log(f"recognition/{REAL_RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"recognition/{REAL_RUN.path}")
    wildcard_constraints:
        schedule=one_of(schedule.name for schedule in SCHEDULES if not schedule.reads_notes),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        out=subpath(output.predictions, parent=True),
    message:
        "train {wildcards.recognizer} on {wildcards.corpus}, {wildcards.schedule}, seed {wildcards.seed}"
    shell:
        "mentionforge recognition train --spec {input.spec:q} --model {input.model:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q}"
        " --schedule {wildcards.schedule} --seed {wildcards.seed} --out {params.out:q} 2>&1 | tee {log:q}"


rule recognize_augmented:
    """Train with the chosen synthetic notes by a schedule, and predict dev and test."""
    input:
        spec=spec_of("recognizers", "{recognizer}"),
        model=model_of("recognizers"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        chosen=RESULTS.chosen("{corpus}", "{generator}", "{strategy}"),
        synthetic=SYNTHETIC_TABLES,
        teacher=RECOGNITION.teacher,
        versions=raised("schedule.{schedule}"),
    output:
        predictions=RESULTS.recognition(AUGMENTED_RUN),
        model=directory(RESULTS.recognition(AUGMENTED_RUN, "model")),
        history=RESULTS.recognition(AUGMENTED_RUN, "history.csv"),
    log:
        RESULTS.log(f"recognition/{AUGMENTED_RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"recognition/{AUGMENTED_RUN.path}")
    wildcard_constraints:
        schedule=one_of(schedule.name for schedule in SCHEDULES if schedule.reads_notes),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        synthetic=parent_of("synthetic"),
        teacher=flags(teacher="--teacher"),
        out=subpath(output.predictions, parent=True),
    message:
        "train {wildcards.recognizer} on {wildcards.corpus} with {wildcards.generator} by {wildcards.strategy}, {wildcards.schedule}, seed {wildcards.seed}"
    shell:
        "mentionforge recognition train --spec {input.spec:q} --model {input.model:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q}"
        " --chosen {input.chosen:q} --synthetic {params.synthetic:q} {params.teacher} --schedule {wildcards.schedule} --seed {wildcards.seed}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule recognize_cross:
    """Predict dev and test of a corpus with a model that was trained on another one."""
    input:
        model=RESULTS.recognition(SOURCE_RUN, "model"),
        corpus=CORPUS_TABLES,
    output:
        RESULTS.recognition(CROSS_RUN),
    log:
        RESULTS.log(f"recognition/{CROSS_RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"recognition/{CROSS_RUN.path}")
    wildcard_constraints:
        source=one_of(CONFIG.corpora),
        generator=one_of({*CONFIG.generators, NONE}),
        strategy=one_of(CONFIG.strategies),
        schedule=one_of(schedule.name for schedule in SCHEDULES),
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
    message:
        "{wildcards.recognizer} of {wildcards.source} reads {wildcards.corpus}, {wildcards.schedule}, seed {wildcards.seed}"
    shell:
        "mentionforge recognition predict --model {input.model:q} --corpus {params.corpus:q} --out {output:q} 2>&1 | tee {log:q}"


rule recognize_dictionary:
    """Predict dev and test by the names of a dictionary: the baseline without training."""
    input:
        spec=spec_of("recognizers", "{recognizer}"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        names=RECOGNITION.dictionary_names,
    output:
        RESULTS.recognition(UNTRAINED_RUN),
    log:
        RESULTS.log(f"recognition/{UNTRAINED_RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"recognition/{UNTRAINED_RUN.path}")
    wildcard_constraints:
        recognizer=one_of(name for name, r in CONFIG.recognizers.items() if r.schedule == UNTRAINED),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        corpus=parent_of("corpus"),
        names=flags(names="--names"),
    message:
        "search the names of {wildcards.recognizer} in {wildcards.corpus}"
    shell:
        "mentionforge recognition match --spec {input.spec:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q} {params.names}"
        " --out {output:q} 2>&1 | tee {log:q}"
