# The workflow in a container: Snakemake, its Slurm executor and the program, as a user without rights. No weights, no data: the checkout is mounted.
#
#   docker build -f docker/workflow.Dockerfile -t mentionforge .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/experiment" mentionforge snakemake resources/models/minilm/fetched.json resources/models/smollm2/fetched.json
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/experiment" --network none mentionforge snakemake
#
# TORCH names the build of torch: a local version such as torch==2.13.0+cpu where the package index has it. BASE may name the base image by its digest.
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm
FROM ${BASE} AS build
ARG TORCH="torch==2.13.0"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/mentionforge
ENV PATH=/opt/mentionforge/bin:$PATH
RUN pip install pip==25.3 && pip install "$TORCH"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY workflow/mentionforge workflow/mentionforge
RUN pip install ".[clusters]"
# What would fail in a job fails here.
RUN python -c "import spacy; spacy.load('biosenter'); import bitsandbytes, duckdb, faiss, peft, trl, snakemake_executor_plugin_slurm" && snakemake --version

FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/mentionforge /opt/mentionforge
ENV PATH=/opt/mentionforge/bin:$PATH HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1 HOME=/tmp LOGNAME=mentionforge
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin mentionforge
USER 1000
WORKDIR /experiment
CMD ["snakemake", "-n"]
