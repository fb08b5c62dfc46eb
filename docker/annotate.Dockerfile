# Annotation in a container: the command line and the service, as a user without rights, without a network at run time.
#
#   docker build -f docker/annotate.Dockerfile -t mentionforge-annotate .
#   docker run --rm --network none --read-only --tmpfs /tmp -v "$PWD/my.bundle:/bundle:ro" -v "$PWD/notes:/notes:ro" -v "$PWD/out:/out" \
#     --user "$(id -u):$(id -g)" mentionforge-annotate annotate /notes --bundle /bundle --to brat --out /out/brat
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD/my.bundle:/bundle:ro" -p 127.0.0.1:8000:8000 mentionforge-annotate \
#     serve --bundle /bundle --host 0.0.0.0
#
# podman and buildah take the same lines, and build without root. BASE names the base image, for instance by its digest or from a mirror of yours; TORCH the
# build of torch: a local version such as torch==2.13.0+cpu where the package index has it. No weights, names or notes are in the image: they come with the bundle.
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
RUN pip install ".[serve,context]"
# What would fail at the user's site fails here.
RUN python -c "import spacy; spacy.load('biosenter'); import mentionforge.annotate.service, mentionforge.annotate.context, mentionforge.annotate.component"

FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/mentionforge /opt/mentionforge
ENV PATH=/opt/mentionforge/bin:$PATH HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin annotate
USER 1000
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["mentionforge"]
CMD ["annotate", "--help"]
