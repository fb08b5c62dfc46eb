"""What a run says at its start, with the numbers of jobs counted by hand."""

import pytest
import yaml

from checkout import ROOT
from mentionforge.config import load_config
from mentionforge.planning import opening
from mentionforge.planning.reference_devices import SMALL, device

JOBS = [
    ("spec", {"kind": "linkers", "entry": "mention"}),
    ("kb_extract", {"kb": "demo"}),
    ("sample", {"generator": "smollm2", "shard": "0", "shards": "2"}),
    ("sample", {"generator": "smollm2", "shard": "1", "shards": "2"}),
    ("link_augmented_together", {"corpus": "demo_ncbi", "generator": "smollm2", "strategy": "naive", "linker": "mention"}),
    ("link_augmented_together_2", {"corpus": "demo_ncbi", "generator": "names", "strategy": "naive", "linker": "mention"}),
    ("all", {}),
]


@pytest.fixture(scope="module")
def config():
    return load_config(yaml.safe_load((ROOT / "config.yaml").read_text()))


def test_jobs_are_counted_by_kind_and_the_time_is_said(config) -> None:
    first, second = opening.opening(JOBS, config, 2, device(SMALL))
    assert first == "5 jobs: 2 shards of notes, 2 linkings, 1 short."
    assert second.startswith("About ") and "on 2 cores of this machine (160 billion operations per second" in second and "results watch results" in second


def test_nothing_to_do_says_nothing(config) -> None:
    assert opening.opening([("all", {}), ("spec", {"kind": "linkers", "entry": "x"})], config, 2, device(SMALL)) == []
    assert opening.opening([("tidy", {})], config, 2, device(SMALL)) == ["1 job: 1 short."], "no time of a moment"


def test_a_damaged_table_stops_no_run(config, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/kb/demo").mkdir(parents=True)
    (tmp_path / "results/kb/demo/names.parquet").write_text("{}")
    assert opening.opening(JOBS, config, 2, device(SMALL)) == ["5 jobs: 2 shards of notes, 2 linkings, 1 short."]


def test_twice_the_cores_and_twice_the_speed_take_less(config) -> None:
    work = [job for job in JOBS if job[0] not in opening.UNCOUNTED]
    slow, fast = device(SMALL), opening.replace(device(SMALL), flops=2 * device(SMALL).flops)
    times = [opening.total_seconds(work, config, cores, on) for cores, on in ((2, slow), (4, slow), (2, fast))]
    assert times[1] == pytest.approx(times[0] / 2) and times[2] < times[0]
    assert opening.total_seconds([("kb_extract", {"kb": "demo"})], config, 1, slow) == opening.SHORT_S


def test_no_time_is_said_of_models_that_need_a_gpu(config) -> None:
    large = load_config(yaml.safe_load((ROOT / "config.yaml").read_text()) | {"models": config.model_dump()["models"] | {"large": {"hub": "a/b@" + "0" * 40}}})
    assert "mentionforge status" in opening.opening(JOBS, large, 2)[1]
    assert opening.opening(JOBS, config, None)[1] == opening.opening(JOBS, large, 2)[1], "nor of jobs that run elsewhere"


def test_the_speed_of_this_processor_is_measured() -> None:
    assert 1e9 < opening.this_processor().flops < 1e14
