"""Devices, timeouts and gradient exchange of a process group."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from two_ranks import (
    CLIPS,
    MICRO,
    clips,
    gradients,
    impatient,
    late,
    low_precision_step,
    model,
    objects,
    run,
)

from worldmodel.checkpoints.random_encoder import random_encoder
from worldmodel.errors import ConfigError, TrainingError
from worldmodel.models import precision
from worldmodel.training import distributed
from worldmodel.training.batches import to_device, use_device
from worldmodel.training.checkpointing import CheckpointStore
from worldmodel.training.config import PretrainOptions
from worldmodel.training.distributed import (
    PATIENCE,
    TIMEOUT,
    Ranks,
    mixed_precision,
    own_device,
    process_group,
)
from worldmodel.training.divergence import DivergenceCheck
from worldmodel.training.masked_objective import move_average
from worldmodel.training.run import open_optimizer
from worldmodel.training.tasks.post import FeatureReader, frozen_on

CPU = torch.device("cpu")
JOINED = {"rank": 1, "world_size": 4, "timeout": TIMEOUT}


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine on which torch finds two CUDA devices; returns what becomes the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize(("local_rank", "index"), [(0, 0), (1, 1), (2, 0), (3, 1)])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_takes_the_device_of_its_local_rank(two_gpus, device, local_rank, index):
    own = torch.device("cuda", index)
    assert own_device(device, local_rank, 4) == own
    assert two_gpus == [own]


def test_a_named_device_is_for_one_process_and_a_cpu_takes_none(two_gpus):
    assert own_device("cuda:1", 0, 1) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="device=cuda:1 gives 2 processes one CUDA device"):
        own_device("cuda:1", 0, 2)
    assert own_device("cpu", 1, 2) == CPU
    assert two_gpus == [torch.device("cuda", 1)]


def test_cuda_that_was_asked_for_and_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="torch finds 0 CUDA devices"):
        own_device("cuda", 0, 1)
    assert own_device("auto", 0, 1) == CPU


def recorded(monkeypatch, device):
    """Join a group with torch.distributed replaced; returns the calls in their order."""
    calls = []
    given = {"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "MASTER_PORT": "1"}
    for name, value in {**given, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda own: calls.append(("set_device", own)))
    monkeypatch.setattr(
        dist, "init_process_group", lambda *a, store, **k: calls.append(("init", *a, k))
    )
    monkeypatch.setattr(dist, "new_group", lambda **k: calls.append(("new", k)))
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    store = dist.HashStore()
    store.add("started", 3)
    monkeypatch.setattr(distributed, "rendezvous", lambda url, timeout: iter([(store, 1, 4)]))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append(("destroy",)))
    with process_group(device) as ranks:
        assert (ranks.rank, ranks.count) == (1, 4)
        assert ranks.device("cpu") == ranks.own
    return calls


def test_nccl_takes_tensors_of_the_own_device_and_gloo_objects(two_gpus, monkeypatch):
    own = torch.device("cuda", 1)
    assert recorded(monkeypatch, "auto") == [
        ("set_device", own),
        ("init", "cpu:gloo,cuda:nccl", JOINED | {"device_id": own}),
        ("new", {"timeout": PATIENCE, "backend": "gloo"}),
        ("destroy",),
    ]
    assert PATIENCE > 100 * TIMEOUT


def test_a_run_on_cpus_leaves_cuda_alone(two_gpus, monkeypatch):
    calls = recorded(monkeypatch, "cpu")
    assert calls[0] == ("init", "gloo", JOINED | {"device_id": None})
    assert [name for name, *_ in calls] == ["init", "new", "destroy"]


def test_without_a_launcher_there_is_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("cpu") as ranks:
        assert ranks == Ranks()
        assert ranks.device("cpu") == CPU


def test_two_processes_agree_on_objects_while_one_is_away(tmp_path):
    found = run(objects, tmp_path)
    for said, own in found:
        assert said == (10.0, [10.0, 11.0], 1, {"b": 10.5, "a": 1.0})
        assert own == (CPU, CPU, "gloo", "gloo")


def test_processes_may_start_far_apart(tmp_path):
    assert run(late, tmp_path) == [[0, 1]] * 2


def test_the_group_of_a_step_does_not_wait_as_long(tmp_path):
    first, second = run(impatient, tmp_path)
    assert first == ""
    assert "imed out" in second


def test_gradients_are_exchanged_once_a_step_and_are_the_same_numbers(tmp_path):
    net = model()
    for rank in range(2):
        for micro in range(MICRO):
            net(clips(rank, micro)).sum().backward()
    want = {name: weight.grad / 2 for name, weight in net.named_parameters()}
    assert max(float(g.abs().max()) for g in want.values()) > CLIPS
    for kind, times in (("ddp", 1), ("fsdp", 0)):
        for always in (False, True):
            for found, exchanged in run(gradients, tmp_path, kind, always):
                assert all(torch.equal(found[name], want[name]) for name in want), kind
                assert exchanged == (MICRO * times if always else times)


def test_sharded_weights_are_gathered_in_bfloat16_on_cuda_alone(tmp_path):
    cuda = torch.device("cuda", 0)
    assert mixed_precision(CPU, bf16=True) == mixed_precision(cuda, bf16=False)
    policy = mixed_precision(cuda, bf16=True)
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    exact, low = (run(low_precision_step, tmp_path, bf16)[0] for bf16 in (False, True))
    assert exact[1] == {torch.float32}
    assert low[1] == {torch.bfloat16}
    assert low[0] == pytest.approx(exact[0], rel=3e-2)
    assert low[2].dtype == torch.float32
    assert (low[2] - exact[2]).norm() < 3e-2 * exact[2].norm()


def test_threads_use_the_device_of_their_run(two_gpus):
    own = torch.device("cuda", 1)
    use_device(own)
    use_device(CPU)
    use_device(torch.device("cuda"))
    assert two_gpus == [own]


def test_a_batch_is_pinned_for_cuda_alone(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    batch = {"x": torch.arange(3)}
    assert to_device(batch, CPU)["x"] is batch["x"]
    assert not pinned
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a, **k: (x, a, k))
    cuda = torch.device("cuda", 1)
    assert to_device(batch, cuda)["x"] == (batch["x"], (cuda,), {"non_blocking": True})
    assert pinned == [batch["x"]]


def trained(fused):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=fused)
    net(torch.ones(4, 3)).square().mean().backward()
    optimizer.step()
    return net, optimizer


@pytest.mark.parametrize(("saved", "here"), [(True, None), (None, True)])
def test_a_checkpoint_resumes_with_the_kernels_of_the_device_here(tmp_path, saved, here):
    net, optimizer = trained(saved)
    CheckpointStore(tmp_path).save(1, net, optimizer)
    again, other = trained(here)
    other.param_groups[0]["lr"] = 5.0
    assert CheckpointStore(tmp_path).load(again, other) == 1
    group = other.param_groups[0]
    assert (group["fused"], group["lr"]) == (here, 1e-2)
    assert torch.equal(again.weight, net.weight)
    again(torch.ones(4, 3)).square().mean().backward()
    other.step()


def test_the_fused_optimiser_is_for_cuda_and_cpu(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.optim, "AdamW", lambda *_, fused, **__: asked.append(fused))
    options = PretrainOptions()
    task = type("Task", (), {"options": options, "parameter_groups": lambda _: []})()
    for device in (CPU, torch.device("cuda", 0), torch.device("mps")):
        open_optimizer(task, device)
    assert asked == [True, True, None]


def test_a_moving_average_is_that_of_each_weight():
    torch.manual_seed(0)
    fast, slow = nn.Linear(5, 3), nn.Linear(5, 3)
    want = [
        old.lerp(new, 1 - 0.9)
        for old, new in zip(slow.parameters(), fast.parameters(), strict=True)
    ]
    move_average(slow, fast, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(slow.parameters(), want, strict=True))
    half = copy.deepcopy(slow).double()
    move_average(half, fast, 0.5)
    assert half.weight.dtype == torch.float64


def test_a_deferred_check_finds_the_first_bad_loss_and_its_batch(tmp_path):
    def batches(step):
        yield from ({"x": torch.tensor([float(step), float(micro)])} for micro in range(3))

    check = DivergenceCheck(tmp_path, batches, deferred=True)
    check.settle()
    losses = {(4, 1): 2e4, (5, 0): float("nan")}
    for step in range(3, 6):
        for micro, batch in enumerate(batches(step)):
            check.add(torch.tensor(losses.get((step, micro), 1.0)), batch, step, micro)
    numbers = check.remembered().tolist()
    for given in (numbers, None):  # read with the step's losses, or here
        with pytest.raises(TrainingError, match=r"The loss is 20000\.0 at step 4"):
            check.settle(given)
    saved = torch.load(tmp_path / "diverged-step-4.pt", weights_only=True)
    assert saved["x"].tolist() == [4.0, 1.0]


def test_a_deferred_check_reads_nothing_before_it_is_settled(tmp_path, monkeypatch):
    check = DivergenceCheck(tmp_path, iter, deferred=True)
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__float__", "__bool__", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, lambda *_: pytest.fail("the host waited"))
        check.add(torch.tensor(1.0), {}, 0, 0)
    check.settle()


class Frames:
    """One clip of three frames."""

    def batch(self, _):
        frames = torch.randint(0, 256, (1, 3, 32, 32, 3), dtype=torch.uint8)
        return {
            "frames": frames.numpy(),
            "states": torch.zeros(1, 3, 7),
            "actions": torch.zeros(1, 2, 7),
        }


def test_a_frozen_encoder_is_held_in_bfloat16_and_exported_in_float32(monkeypatch):
    encoder = random_encoder("random:tiny", 0, 32)
    assert frozen_on(encoder, CPU, bf16=True) is encoder
    monkeypatch.setattr(precision, "_has_bfloat16", lambda _: True)
    device = torch.device("meta")  # stands for CUDA: a device to which weights are copied
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        reading = frozen_on(encoder, device, bf16=bf16)
        assert (reading.dtype, reading.pixel_mean.dtype) == (dtype, torch.float32)
        assert (reading.device.type, encoder.device.type) == ("meta", "cpu")
    assert encoder.dtype == torch.float32


def test_features_of_a_bfloat16_encoder_are_near_those_of_float32():
    encoder = random_encoder("random:tiny", 0, 32)
    low = copy.deepcopy(encoder)
    low.backbone.bfloat16()
    found = []
    for one, bf16 in ((encoder, False), (low, True), (encoder, True)):
        torch.manual_seed(0)
        found.append(FeatureReader(one, CPU, bf16=bf16)(Frames(), None)["features"])
    assert {z.dtype for z in found} == {torch.float32}
    for z in found[1:]:
        assert (z - found[0]).norm() < 3e-2 * found[0].norm()
