"""What jobs ask for: in every profile by dry-runs, and on Slurm by a command that writes down what is really submitted."""

import json
import logging
import shutil
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jobs import planned

from checkout import ROOT, copy_checkout, snakemake
from claims import claiming, rules_of
from mentionforge.planning.plan import plan
from recording import Asked, asked, make_up, told

OVERLAY = {
    "models": {"big": {"hub": "example/llama-13b"}},
    "generators": {
        "smollm2": {"model": "big", "finetune": {"devices": 2}},
        "spread": {"kind": "llm", "kb": "demo", "model": "big", "concepts": {"max": 12}, "backend": {"kind": "vllm", "tensor_parallel": 4}},
        "served": {"kind": "llm", "kb": "demo", "concepts": {"max": 12}, "backend": {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m"}},
        "names": {"locate": {"tag_similarity": 0.8}, "filters": {"agreement": {"k": 3}}, "encoder": {"model": "minilm"}},
    },
    "linkers": {"aligned": {"kind": "self_aligned", "model": "minilm"}, "reranked": {"kind": "rerank", "linker": "mention", "model": "minilm"}},
    "experiment": {
        "normalization": [
            {
                "corpora": ["demo_semeval", "demo_ncbi"],
                "generators": ["smollm2", "spread", "served", "names"],
                "strategies": ["none", "naive", "supplemental"],
                "linkers": ["mention", "tfidf", "aligned", "reranked"],
                "indexes": ["kb", "train+kb"],
            }
        ],
        "recognition": [
            {
                "corpora": ["demo_ncbi"],
                "generators": ["smollm2"],
                "strategies": ["none", "naive"],
                "recognizers": ["minilm", "dictionary"],
                "test_corpora": ["demo_semeval"],
                "linkers": ["mention", "tfidf"],
                "indexes": ["train+kb"],
            }
        ],
    },
}
"""An experiment with every rule, several devices, a server, and encoders that some entries need and others do not."""
SEVERAL = {"finetune": 2, "sample_vllm": 4}
PUBLISHED = (9_948_693_272, 9_904_129_368, 6_178_983_625)
"""Bytes of the files of a model with 13 billion parameters in bfloat16."""
G, N = "results/generation", "results/normalization"
ADAPTER, SPREAD = f"{G}/smollm2/adapter", f"{G}/spread/shards/0-of-1.parquet"
TRAINED = "results/recognition/demo_ncbi/none/none/minilm/real_only/seed1/predictions.parquet"
LINKED = [
    f"{N}/{corpus}/names/naive/{linker}/{index}/predictions.parquet"
    for corpus in ("demo_semeval", "demo_ncbi")
    for linker in ("mention", "aligned", "tfidf")
    for index in ("kb", "train+kb")
]
CHOSEN = [f"results/augmentation/{c}/{g}/supplemental/notes.parquet" for c in ("demo_semeval", "demo_ncbi") for g in ("names", "served", "spread")]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with that experiment, and weights of 26 GB that take no room."""
    folder = copy_checkout(tmp_path_factory.mktemp("asked") / "checkout")
    (folder / "resources/models").unlink(missing_ok=True)
    (folder / "overlay.yaml").write_text(yaml.safe_dump(OVERLAY))
    weights = folder / "resources/models/big/weights"
    weights.mkdir(parents=True)
    for number, size in enumerate(PUBLISHED, 1):
        with open(weights / f"model-{number}-of-3.safetensors", "wb") as file:
            file.truncate(size)
    (weights.parent / "fetched.json").write_text(json.dumps({"folder": "weights"}))
    return folder


def pod(resources: dict[str, int | str], scratch: Path) -> Any:
    """What the executor would ask of Kubernetes for a job with these resources, up to the call of its server."""
    from snakemake_executor_plugin_kubernetes import Executor

    sent = []
    executor: Any = Executor.__new__(Executor)
    executor.logger = logging.getLogger("pod")
    executor.container_image, executor.namespace, executor.run_namespace, executor.log_path = "image", "default", "here", scratch
    executor.persistent_volumes, executor.secret_envvars, executor.secret_files = [], {}, {}
    executor.k8s_cpu_scalar, executor.k8s_service_account_name, executor.privileged = 1.0, None, False
    executor.format_job_exec = lambda job: "true"
    executor.report_job_submission = lambda info: None
    executor._kubernetes_retry = lambda call: call() or SimpleNamespace(metadata=SimpleNamespace(name="pod"))
    executor.batchapi = SimpleNamespace(create_namespaced_job=lambda namespace, body: sent.append(body))
    executor.run_job(SimpleNamespace(resources=resources, jobid=1, attempt=1, is_containerized=False))
    return sent[0].spec.template.spec.containers[0].resources


WITH = ("--configfile", "tests/mini.yaml", "overlay.yaml")


def expected_gpus(rule: str, output: str) -> int:
    """By the commands: those that claim a GPU get one, or as many as the settings say; but not where the command is given no weights."""
    if rule not in rules_of(claiming()):
        return 0
    unneeded = {
        "sample": "/served/" in output,
        "locate": "/names/" not in output,
        "filter": "/names/" not in output,
        **dict.fromkeys(("embed_kb", "embed_corpus", "embed_generator", "link_predicted"), "/tfidf/" in output),
    }
    return 0 if unneeded.get(rule) else SEVERAL.get(rule, 1)


@pytest.mark.parametrize("profile", ["default", "gpu", "slurm", "cluster-generic", "kubernetes"])
def test_each_job_whose_command_claims_a_gpu_gets_it_in_every_profile(profile: str, everything: Path, tmp_path: Path) -> None:
    storage = ("--default-storage-provider", "fs", "--default-storage-prefix", str(tmp_path)) if profile == "kubernetes" else ()
    if storage:  # it holds all inputs; and here also the settings of one job, so that this one is ready
        shutil.copytree(everything / "resources/demo", tmp_path / "resources/demo")
        (tmp_path / "results/specs/kbs").mkdir(parents=True)
        (tmp_path / "results/specs/kbs/demo.json").touch()
    limit = ("--resources", "gpu=8") if profile == "gpu" else ()
    jobs = told(everything, *WITH, "--workflow-profile", f"profiles/{profile}", *storage, *limit, executor=profile)
    sent = [job for job in jobs if not job.local or job.rule not in ("spec", "fetch_model", "fetch_download", "licensed_input")]
    assert rules_of(claiming()) <= {job.rule for job in sent}, "the experiment has them all"
    if storage:
        [kb] = [job for job in sent if job.rule == "kb_extract"]
        assert 4000 < kb.resources["mem_mb"] < 4010, "the size of inputs that only Snakemake can look at"
    for job in sent:
        count = expected_gpus(job.rule, job.output)
        assert job.resources.get("gpu", "none") == (count or ("none" if profile == "kubernetes" else 0)), job
        assert job.resources.get("nodes") == (1 if count > 1 else None), job
        assert ("gpu_manufacturer" in job.resources) == ("scale" in job.resources) == (bool(count) and profile == "kubernetes"), job
        if profile == "kubernetes":
            wanted = pod(job.resources, tmp_path)
            gpu = {"nvidia.com/gpu": str(count)} if count else {}
            assert {key: value for key, value in wanted.requests.items() if "gpu" in key} == gpu, job
            assert {key: value for key, value in (wanted.limits or {}).items() if "gpu" in key} == gpu, "a GPU is given by its limit"
        assert "gpu_model" not in job.resources and "gres" not in job.resources
        assert job.resources.get("lanes") == (1 if profile in ("slurm", "cluster-generic", "kubernetes") else None)


def test_profiles_hold_behaviour_and_no_figures() -> None:
    for path in sorted((ROOT / "profiles").glob("*/config.yaml")):
        profile = yaml.safe_load(path.read_text())
        assert not {"set-resources", "default-resources", "set-threads", "set-resource-scopes"} & set(profile), path
        assert profile.get("resources", {}) == ({"gpu": 1} if path.parent.name == "gpu" else {}), path


@pytest.fixture(scope="module")
def made_up(everything: Path) -> Path:
    """The same with a file for each output, but for those that the tests ask for."""
    make_up(everything, plan(list(WITH), everything), {"located.parquet": 40_000_000, "generator.names/entries.parquet": 20_000_000})
    for path in (everything / "results/embeddings").rglob("generator.names/vectors.npy"):
        with open(path, "wb") as file:
            file.truncate(440_000_000)
    for target in (ADAPTER, SPREAD, TRAINED, *LINKED, *CHOSEN):
        path = everything / target
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return everything


def by_name(submissions: list[Asked]) -> dict[str, list[Asked]]:
    """Submissions of each rule or group, in their order."""
    found: dict[str, list[Asked]] = defaultdict(list)
    for one in submissions:
        found[one.name.partition("_wildcards")[0].replace("_together", "")].append(one)
    return found


TARGETS = [ADAPTER, TRAINED, *LINKED, *CHOSEN]


@pytest.fixture(scope="module")
def plainly(made_up: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Asked]]:
    """What the profile asks for by itself."""
    return by_name(asked(made_up, tmp_path_factory.mktemp("plainly") / "run", TARGETS, *WITH))


def test_each_attempt_asks_for_more_and_a_group_for_what_its_jobs_need(plainly: dict[str, list[Asked]]) -> None:
    assert set(plainly) == {"finetune", "recognize_real", "link_link_augmented", "choose_augment"}
    [tune] = [(one.mem_mb, one.minutes) for one in plainly["finetune"][:1]]
    assert tune[0] > sum(PUBLISHED) / 1e6 + 2 * 4000, "13B weights, and two processes"
    for tries in plainly.values():
        assert [one.mem_mb for one in tries] == pytest.approx([tries[0].mem_mb * n for n in (1, 2, 3)], abs=12)
        assert [one.minutes for one in tries] == pytest.approx([tries[0].minutes * n for n in (1, 2, 3)], abs=12)
        assert all(one.partition == "mine" and one.gres is None for one in tries)
    assert {(one.gpus, one.cpus, one.nodes) for one in plainly["finetune"]} == {("2", 4, 1)}
    assert {(one.gpus, one.cpus, one.nodes) for one in plainly["recognize_real"]} == {("1", 2, None)}
    # Four of the six links, each of two indexes, and of the six choices, run side by side; the vectors of the synthetic mentions are counted.
    links, chosen = plainly["link_link_augmented"], plainly["choose_augment"]
    assert {(one.gpus, one.cpus) for one in links + chosen} == {(None, 4)}
    assert links[0].minutes >= 2 * 2 * 5, "two rows of jobs, of two indexes each, at five minutes an index"
    assert links[0].mem_mb >= 4 * 2000 + 4 * 3 * 460 and chosen[0].mem_mb >= 4 * (2000 + 20 * 40)


def test_a_users_profile_replaces_what_it_names_and_nothing_else(made_up: Path, plainly: dict[str, list[Asked]], tmp_path: Path) -> None:
    profile = {"set-resources": {"finetune": {"mem_mb": 90_000}, "link_augmented": {"runtime": 7}, "recognize_real": {"gpu": 0, "gres": "gpu:v100:1"}}}
    found = by_name(asked(made_up, tmp_path / "run", TARGETS, *WITH, profile=profile))
    assert found["finetune"] == [one._replace(mem_mb=90_000) for one in plainly["finetune"]]
    assert found["link_link_augmented"] == [one._replace(minutes=14) for one in plainly["link_link_augmented"]], "two rows of four"
    assert found["recognize_real"] == [one._replace(gpus=None, gres="gpu:v100:1") for one in plainly["recognize_real"]]
    assert found["choose_augment"] == plainly["choose_augment"]


def test_the_command_line_replaces_what_it_names_and_nothing_else(made_up: Path, plainly: dict[str, list[Asked]], tmp_path: Path) -> None:
    more = ("--set-resources", "finetune:mem_mb=91000", "recognize_real:gres=gpu:2", "--retries", "0")
    found = by_name(asked(made_up, tmp_path / "run", TARGETS, *WITH, *more, MENTIONFORGE_GPU="a100"))
    first = {name: tries[:1] for name, tries in plainly.items()}
    assert found == first | {
        "finetune": [first["finetune"][0]._replace(mem_mb=91_000, gpus="a100:2")],
        "recognize_real": [first["recognize_real"][0]._replace(gpus=None, gres="gpu:2")],
    }


@pytest.mark.parametrize("way", ["variable", "profile", "command line"])
def test_one_key_asks_for_no_gpu(way: str, made_up: Path, plainly: dict[str, list[Asked]], tmp_path: Path) -> None:
    profile = {"resources": {"gpu": 0}} if way == "profile" else {}
    more = ("--resources", "gpu=0") if way == "command line" else ()
    kind = {"variable": "none", "command line": "a100"}.get(way, "")
    found = by_name(asked(made_up, tmp_path / "run", TARGETS, *WITH, "--retries", "0", *more, profile=profile, MENTIONFORGE_GPU=kind))
    assert found == {name: [tries[0]._replace(gpus=None, nodes=None)] for name, tries in plainly.items()}


def test_a_model_over_several_gpus_has_them_on_one_node(made_up: Path, tmp_path: Path) -> None:
    [one] = asked(made_up, tmp_path / "run", [SPREAD], *WITH, "--retries", "0")
    assert (one.gpus, one.nodes, one.cpus) == ("4", 1, 8) and one.mem_mb > sum(PUBLISHED) / 1e6


def test_a_checkout_below_a_folder_with_a_blank_plans_and_runs(tmp_path: Path) -> None:
    folder = copy_checkout(tmp_path / "my notes" / "the checkout")
    assert len(planned(folder, "--configfile", "tests/mini.yaml")) >= 100
    target = "results/kb/demo/stats.json"
    [one] = asked(folder, tmp_path / "a run", [target], "--retries", "0")
    assert one.name == "kb_extract_wildcards_demo"
    snakemake(folder, target, "results/corpora/demo_ncbi/stats.json", "--cores", "2")
    assert json.loads((folder / target).read_text()) and (folder / "results/corpora/demo_ncbi/stats.json").is_file()
    done = snakemake(folder, "-n", "--sdm", "apptainer", check=False)
    assert done.returncode and "error: blank in the path of the image" in done.stdout and "MENTIONFORGE_IMAGE" in done.stdout and "Traceback" not in done.stdout


def test_a_rule_without_its_gpu_is_a_pod_without_one(everything: Path, tmp_path: Path) -> None:
    shutil.copytree(everything / "resources/demo", tmp_path / "resources/demo")
    storage = ("--default-storage-provider", "fs", "--default-storage-prefix", str(tmp_path))
    more = ("--workflow-profile", "profiles/kubernetes", *storage, "--set-resources", "finetune:gpu=0")
    [job] = [job for job in told(everything, *WITH, *more, executor="kubernetes") if job.rule == "finetune"]
    assert pod(job.resources, tmp_path).requests["nvidia.com/gpu"] == "0"
