# `make help` lists the commands. VENV, PYTHON, TORCH_BUILD and WORKERS can be set: make test WORKERS=0
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help lock dist demo docs test test-unit fuzz test-paper test-paper-long test-vllm models open lint generated venv test-slurm test-slurm-short test-slurm-demo test-faults bench-scheduler bench-kb bench-locate bench-corpora bench-statistics test-kills bench-generation bench-gpu bench-recognition bench-linking bench-annotate confirm comparison simulate bench-alignment

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED)  ## an environment in .venv, with uv where it is there, else pip (docs/install.md)

# Uses uv where it is there, pip otherwise. TORCH_BUILD=cpu or cuda, or TORCH=torch==2.13.0+cu130, names the build of torch: envs/install.sh
$(INSTALLED): pyproject.toml uv.lock envs/install.sh envs/locked.txt envs/locked-torch.txt
	PYTHON="$(PYTHON)" envs/install.sh $(VENV)
	touch $@

# uv.lock after pyproject.toml, and from it the files for pip; needs uv. UPGRADE=--upgrade also takes newer versions of what is pinned nowhere.
EXPORT := uv export --quiet --frozen --no-header --no-annotate --no-emit-project --all-extras
lock:  ## uv.lock and envs/locked*.txt after a change of dependencies (needs uv)
	uv lock $(UPGRADE)
	cuda="torch $$(sed -nE 's/^name = "((nvidia|cuda)-.*|triton)"$$/\1/p' uv.lock | tr '\n' ' ')"; \
	{ echo "# Exported from uv.lock by \`make lock\`: all but torch and the libraries of CUDA."; \
	  $(EXPORT) $$(printf -- '--no-emit-package %s ' $$cuda); } > envs/locked.txt; \
	{ echo "# Exported from uv.lock by \`make lock\`: PyPI's torch, with CUDA on Linux and for CPUs on macOS."; \
	  $(EXPORT) $$(sed -nE 's/^([a-z0-9.-]+)==.*/--no-emit-package \1/p' envs/locked.txt); } > envs/locked-torch.txt

# As they are published: built from the commit's files alone, in an environment of their own
DIST := .venv-dist
dist:  ## wheel and source distribution in dist/, checked
	test -x $(DIST)/bin/twine || { $(PYTHON) -m venv $(DIST) && $(DIST)/bin/pip install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0; }
	rm -rf dist build
	$(DIST)/bin/python -m build --outdir dist .
	$(DIST)/bin/twine check --strict dist/*

demo: $(INSTALLED)  ## the whole experiment on the embedded data, from nothing to the summary table
	snakemake
	@mentionforge report show results

models: $(INSTALLED)  ## fetch the two small models of the demo
	snakemake resources/models/minilm/fetched.json resources/models/smollm2/fetched.json

# Two tests at a time; WORKERS=0 runs one after the other. What fails beside other work is tried once more, alone: what fails there, too, is broken.
WORKERS ?= 2

test: models  ## every test that needs no GPU
	pytest -n $(WORKERS) --no-loadscope-reorder || { [ $$? = 1 ] && pytest --last-failed --last-failed-no-failures none; }

# No experiment, no weights, no training, no long processes: tests/conftest.py says which those are
test-unit: $(INSTALLED)  ## tests of single functions, for everyday work
	pytest -n $(WORKERS) -m unit tests/unit

# config/paper.yaml to its report, with tiny models that lie on a hub of the test as the published ones do; `make test` runs the short one, too
test-paper: $(INSTALLED)  ## config/paper.yaml to its report, with tiny models from a hub of the test
	pytest tests/e2e/test_paper.py

test-paper-long: $(INSTALLED)  ## the same, longer
	MENTIONFORGE_PAPER=long pytest tests/e2e/test_paper.py

# Twenty thousand damaged inputs where the tests have two thousand, and ten times as many of those of single formats: docs/reliability.md
fuzz: $(INSTALLED)  ## twenty thousand damaged inputs
	MENTIONFORGE_FUZZ=10 pytest tests/unit/test_fuzz.py tests/unit/test_corpora_fuzz.py tests/unit/test_generation_replay.py tests/unit/test_kb_rrf.py -k "no_traceback or damaged"

open: $(INSTALLED)  ## public corpora and open ontologies, and their page of results
	snakemake --configfile config/open.yaml
	mentionforge report document results/open --config config.yaml --config config/open.yaml --interpretation docs/results/open/interpretation.md --out docs/results.md --data docs/results/open

# published scores and ours under the same protocol: docs/comparison.md
comparison: $(INSTALLED)  ## published scores beside ours (docs/comparison.md)
	snakemake --configfile config/open.yaml config/comparison.yaml
	mentionforge report published --results results/comparison

lint: $(INSTALLED)  ## formatting, types, rules, spelling, versions of the parts
	ruff check workflow/mentionforge tests resources/demo
	ruff format --check workflow/mentionforge tests resources/demo
	mypy
	snakefmt --check Snakefile workflow/Snakefile workflow/rules
	snakemake --lint
	mentionforge dev versions
	codespell *.md docs config .github workflow/Snakefile workflow/rules

# All code makes the results that it made before, as after a merge; of one part: mentionforge dev confirm PART
confirm: $(INSTALLED)  ## declare that all code makes the results that it made before
	mentionforge dev confirm --all

generated: $(INSTALLED)  ## what is written from the code: schema, environments, rule graph
	mentionforge config schema --out workflow/schemas/config.schema.json
	mentionforge config schema --file --out workflow/schemas/file.schema.json
	mentionforge config envs --out envs/mentionforge.yaml
	mentionforge config envs --vllm --out envs/vllm.yaml
	mentionforge dev reference
	snakemake --rulegraph mermaid-js 2>/dev/null | mentionforge report rulegraph --page workflow/README.md

# To read it: python -m http.server -d site
docs: $(INSTALLED)  ## the documentation as a site in site/; a dead link or anchor is an error
	zensical build --strict --config-file mkdocs.yml

bench-scheduler: $(INSTALLED)  ## speed of Snakemake's scheduling
	python tests/benchmarks/scheduler.py

bench-kb: $(INSTALLED)  ## speed of reading knowledge bases
	python tests/benchmarks/bench_kb.py

bench-locate: $(INSTALLED)  ## speed of locating names in notes
	python tests/benchmarks/locate.py

bench-corpora: $(INSTALLED)  ## speed of reading corpora
	python tests/benchmarks/bench_corpora.py --data $(or $(MENTIONFORGE_MIRROR),../shared/data)

# coverage of intervals and type I error on simulated experiments: the table of docs/statistics.md
simulate: $(INSTALLED)  ## coverage of intervals on simulated experiments (docs/statistics.md)
	python tests/simulated.py

bench-statistics: $(INSTALLED)  ## speed of the comparisons
	python tests/benchmarks/bench_statistics.py

# kill -9 at 20 random moments of a shard and of a fine-tuning of the small model; the ends equal uninterrupted ones
test-kills: models  ## kill -9 at random moments, then resume
	python tests/kills.py --what shard --model resources/models/smollm2/fetched.json --notes 12 --tokens 12
	python tests/kills.py --what finetune --model resources/models/smollm2/fetched.json --updates 9

bench-generation: models  ## notes per second of each backend
	python tests/benchmarks/generation.py

bench-gpu: $(INSTALLED)  ## speed on a GPU
	python tests/benchmarks/gpu.py

bench-recognition: models  ## speed of recognizers
	snakemake --configfile config/open.yaml -- results/open/corpora/ncbi_disease/mentions.parquet
	python tests/benchmarks/recognition.py

EMBEDDED := results/open/embeddings/mention/corpus.ncbi_disease/entries.parquet $(foreach s,kb.open generator.names generator.template,results/open/embeddings/mention_abbr/$(s)/entries.parquet)
CHOSEN := $(foreach s,naive ideal supplemental ablation,$(foreach g,names template,results/open/augmentation/ncbi_disease/$(g)/$(s)/notes.parquet))
bench-linking: $(INSTALLED)  ## speed of linkers
	snakemake $(EMBEDDED) $(CHOSEN) --configfile config/open.yaml
	python tests/benchmarks/linking.py

bench-alignment: $(INSTALLED)  ## speed of training a linker
	snakemake $(foreach c,ncbi_disease bc5cdr,results/open/corpora/$(c)/mentions.parquet) --configfile config/open.yaml
	python tests/benchmarks/alignment.py

ANNOTATED := recognition/ncbi_disease/none/none/minilm/real_only/seed1 normalization/ncbi_disease/none/none/mention_abbr/train+kb_coded
bench-annotate: $(INSTALLED)  ## speed of annotating texts
	snakemake $(foreach c,$(ANNOTATED),results/open/$(c)/predictions.parquet) results/open/corpora/bc5cdr/documents.parquet --configfile config/open.yaml
	OMP_NUM_THREADS=2 python tests/benchmarks/bench_annotate.py

# A real Slurm of one node, installed and started by the test (needs root and apt): docs/clusters.md
test-slurm: models  ## a real Slurm of one node (needs root and apt)
	python tests/slurm.py --variant short
	python tests/slurm.py --variant mini

test-slurm-demo: models  ## the demo on it
	python tests/slurm.py --variant demo --limit 3600

# SLURM=--if-possible: where it cannot be installed, one line says so, and it is no error
test-slurm-short: $(INSTALLED)  ## a part of it, as in .ci/run
	python tests/slurm.py --variant short $(SLURM)

# kill -9, a full disk, results that cannot be written, a wrong clock, two schedulers: docs/reliability.md (needs root for mounts)
test-faults: $(INSTALLED)  ## a full disk, a wrong clock, two schedulers (needs root)
	python tests/faults.py

# The backend vllm, really run: PyPI's build for CPUs in an environment of its own (3.8 GB), a tiny model, both kinds of adapter, kills: docs/generation.md
VLLM_VENV ?= .venv-vllm
test-vllm: $(INSTALLED)  ## the backend vllm on a CPU, in an environment of its own
	python tests/vllm_run.py --environment $(VLLM_VENV)
