"""What a trial gets of the machines, and how GPUs are packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mgstudy.config.study import Resources
from mgstudy.errors import InputError
from mgstudy.study.running import placement
from mgstudy.study.running.gpus import MPS, UNUSABLE_GPUS
from mgstudy.study.running.placement import (
    GpuPacking,
    TrialResources,
    larger_share,
    trial_resources,
)

LAPTOP = {"CPU": 8.0}
WORKSTATION = {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("asked", "cluster", "settled"),
    [
        ({}, LAPTOP, (1, 0, 8)),
        ({"cpu": 3}, LAPTOP, (3, 0, 2)),
        ({"cpu": 0.5}, LAPTOP, (0.5, 0, 16)),
        ({"max_concurrent": 3}, LAPTOP, (1, 0, 3)),
        ({"max_concurrent": 30}, LAPTOP, (1, 0, 8)),
        # auto: as many trials on each GPU as the CPUs allow, at most 8.
        ({}, WORKSTATION, (1, 1 / 8, 16)),
        ({"cpu": 4}, WORKSTATION, (4, 1 / 2, 4)),
        ({"cpu": 16}, WORKSTATION, (16, 1, 1)),
        ({}, {"CPU": 64.0, "GPU": 1.0}, (1, 1 / 8, 8)),
        ({}, {"CPU": 3.0, "GPU": 1.0}, (1, 1 / 3, 3)),
        # Where kernels of several processes run together, more are worth it.
        ({}, {"CPU": 64.0, "GPU": 1.0, MPS: 1.0}, (1, 1 / 24, 24)),
        ({}, {"CPU": 16.0, "GPU": 1.0, MPS: 1.0}, (1, 1 / 16, 16)),
        # A fraction does not span GPUs.
        ({"gpu": 0.3}, WORKSTATION, (1, 0.3, 6)),
        ({"gpu": 0.6}, WORKSTATION, (1, 0.6, 2)),
        ({"gpu": 2.0}, {"CPU": 16.0, "GPU": 5.0}, (1, 2, 2)),
        ({"gpu": 0.0}, WORKSTATION, (1, 0, 16)),
        ({"gpu": 0.1, "cpu": 8}, WORKSTATION, (8, 0.1, 2)),
    ],
)
def test_what_a_trial_gets(
    asked: dict[str, float], cluster: dict[str, float], settled: tuple[float, float, int]
) -> None:
    resources = Resources.model_validate(asked)
    assert trial_resources(resources, [cluster]) == TrialResources(*settled)


@pytest.mark.parametrize(
    ("asked", "cluster"),
    [
        ({"cpu": 9}, LAPTOP),
        ({"gpu": 0.5}, LAPTOP),
        ({"gpu": 3.0}, WORKSTATION),
        ({"cpu": 17}, WORKSTATION),
    ],
)
def test_nothing_that_fits_nowhere_is_started(
    asked: dict[str, float], cluster: dict[str, float]
) -> None:
    with pytest.raises(InputError, match=r"no trial fits: one takes .* lower `resources`"):
        trial_resources(Resources.model_validate(asked), [cluster])


BROKEN = {"CPU": 4.0, "GPU": 0.0, UNUSABLE_GPUS: 1.0}


@pytest.mark.parametrize("gpu", ["auto", "packed"])
def test_trials_do_without_gpus_that_torch_cannot_use(
    gpu: str, caplog: pytest.LogCaptureFixture
) -> None:
    settled = trial_resources(Resources.model_validate({"gpu": gpu}), [BROKEN])
    assert settled == TrialResources(1, 0, 4)
    assert "run on CPUs: torch cannot use the GPUs here; install the build" in caplog.text


def test_no_trial_is_started_on_a_gpu_that_torch_cannot_use() -> None:
    assert trial_resources(Resources(gpu=0.0), [BROKEN]).slots == 4
    with pytest.raises(InputError, match=r"cannot use the GPUs here, .* `resources: \{gpu: 0\}`"):
        trial_resources(Resources(gpu=0.5), [BROKEN])
    # Ray would place trials on both.
    with pytest.raises(InputError, match=r"cannot use the GPUs on 1 of 2 nodes, "):
        trial_resources(Resources(), [BROKEN, WORKSTATION])
    asked = Resources(gpu=1.0, accelerator_type="A100")
    assert trial_resources(asked, [BROKEN, A100]).slots == 4


def test_this_machine_has_what_ray_would_count_and_torch_can_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(placement, "gpus_here", lambda: 2)
    found = placement.this_machine()
    assert found["CPU"] >= 1 and (found["GPU"], found[UNUSABLE_GPUS]) == (0, 2)


def test_a_trial_runs_on_one_machine() -> None:
    nodes = [{"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 0.0}]
    assert trial_resources(Resources(cpu=2), nodes).slots == 2
    with pytest.raises(InputError, match=r"one takes 4 CPU.*the largest of 3 nodes has 3 CPU"):
        trial_resources(Resources(cpu=4), nodes)


A10G = {"CPU": 16.0, "GPU": 1.0, "accelerator_type:A10G": 1.0}
A100 = {"CPU": 32.0, "GPU": 4.0, "accelerator_type:A100": 1.0, "fast_disk": 2.0}


def test_only_machines_of_the_kind_that_is_asked_for_count() -> None:
    settled = trial_resources(Resources(gpu=1.0, accelerator_type="A100"), [A10G, A100])
    assert settled.slots == 4
    assert settled.reserved({"gpu": 1.0}) == {
        "CPU": 1, "GPU": 1, "accelerator_type:A100": 0.001
    }  # fmt: skip
    with pytest.raises(InputError, match=r"a GPU of type T4, .*types A100, A10G; lower"):
        trial_resources(Resources(gpu=1.0, accelerator_type="T4"), [A10G, A100])


def test_custom_resources_limit_and_are_reserved() -> None:
    settled = trial_resources(Resources(gpu=0.5, custom={"fast_disk": 0.5}), [A10G, A100])
    assert settled.slots == 4
    assert settled.reserved({"gpu": 0.5}) == {
        "CPU": 1, "GPU": 0.5, "fast_disk": 0.5
    }  # fmt: skip
    with pytest.raises(InputError, match=r"no trial fits: one takes .*3 fast_disk"):
        trial_resources(Resources(gpu=0.5, custom={"fast_disk": 3.0}), [A10G, A100])


def test_a_cluster_that_grows_is_filled_as_far_as_the_study_says() -> None:
    asked = Resources(gpu=0.25, autoscaling=True, max_concurrent=32)
    assert trial_resources(asked, [{"CPU": 0.0}]) == TrialResources(1, 0.25, 32)


@pytest.mark.parametrize(
    "asked", [{"autoscaling": True, "gpu": 1.0}, {"autoscaling": True, "max_concurrent": 4}]
)
def test_a_cluster_that_grows_must_be_told_how_far(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give `max_concurrent` and `gpu` as numbers"):
        Resources.model_validate(asked)


def test_packed_gpus_are_counted_and_never_split_finer_than_the_cpus_allow() -> None:
    settled = trial_resources(Resources(gpu="packed", cpu=4), [A10G, A100])
    # 16 CPUs beside one GPU are four trials, 32 beside four are two on each.
    assert (settled.packed_gpus, settled.gpu, settled.slots) == (5, 1 / 4, 12)
    assert trial_resources(Resources(gpu="packed"), [LAPTOP]) == TrialResources(1, 0, 8)


def test_first_trials_share_a_gpu_and_later_ones_as_many_as_fit() -> None:
    packing = GpuPacking(gpus=2, least_share=1 / 8)
    assert packing.share("a") == 1 / 8
    begun = 0
    while packing.admits():
        begun += 1
        packing.begun(f"first-{begun}", packing.share("a"))
    assert begun == 16

    # 0.8 / 0.15 is 5.3: five fit on a GPU, which is filled to eight tenths.
    packing.measured("a", 0.15)
    assert packing.share("a") == 1 / 5
    assert packing.share("b") == 1 / 8, "of another cell nothing is known"
    for trial in range(1, 9):
        assert packing.ended(f"first-{trial}") == 1 / 8
    later = 0
    while packing.admits():
        later += 1
        packing.begun(f"later-{later}", packing.share("a"))
    assert later == 5


def test_a_cell_that_ran_out_of_memory_gets_twice_the_share_from_then_on() -> None:
    packing = GpuPacking(gpus=1, least_share=1 / 8)
    packing.ran_out("a", 1 / 8)
    assert packing.share("a") == 1 / 4
    packing.ran_out("a", 1 / 4)
    packing.ran_out("a", 1 / 8)
    packing.measured("a", 0.01)
    assert (packing.share("a"), packing.share("b")) == (1 / 2, 1 / 8)
    packing.ran_out("a", 1 / 2)
    assert packing.share("a") == 1


def test_what_a_cell_takes_is_the_most_that_any_of_its_trials_took() -> None:
    packing = GpuPacking(gpus=1, least_share=1 / 8)
    packing.measured("a", 0.01)
    assert packing.share("a") == 1 / 8, "the CPUs allow no more"
    packing.measured("a", 0.4)
    packing.measured("a", 0.1)
    assert packing.share("a") == 1 / 2
    packing.measured("a", 0.95)
    assert packing.share("a") == 1
    packing.measured("b", 0.0)
    assert packing.share("b") == 1 / 8, "a trial on a processor says nothing of GPUs"


def test_a_room_for_contexts_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGSTUDY_CUDA_CONTEXT_BYTES", "half")
    with pytest.raises(InputError, match="MGSTUDY_CUDA_CONTEXT_BYTES: expected a whole number"):
        trial_resources(Resources(), [LAPTOP])


def test_out_of_memory_gets_twice_the_share_up_to_the_whole_gpu() -> None:
    assert [larger_share(gpu) for gpu in (0, 0.125, 0.4, 0.6, 1, 2)] == [0, 0.25, 0.8, 1, 1, 2]
