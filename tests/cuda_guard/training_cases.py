"""Cases of the guard that train."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from PIL import Image

from planning.cli.app import compose_options
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.models import SIDE, Clips, small_encoder
from tests.cuda_guard.registry import case
from worldmodel.training.distributed import Ranks
from worldmodel.training.run import run_task
from worldmodel.training.small_models import Start
from worldmodel.training.sources import Sources
from worldmodel.training.task import Task
from worldmodel.training.tasks.images import ImagePretrainTask
from worldmodel.training.tasks.joint import JointTask
from worldmodel.training.tasks.post import PostTask
from worldmodel.training.tasks.pretrain import PretrainTask
from worldmodel.training.tasks.shapes import ShapesPretrainTask

STEP = 1
"""Step of a training whose waits are recorded: neither logged, validated nor saved."""
STEPS = STEP + 2
PACE = ("samples_per_s", "data_wait", "eta_s")
"""Metrics of a training that are not results."""
SMALL = [
    *("image_size=32", "stem_channels=[4,8]", "patch_size=32", "encoder_dim=16", "encoder_heads=2")
]
PREDICTOR = ["predictor_dim=16", "predictor_depth=2", "predictor_heads=2"]
LOOP = [
    *("batch_size=4", f"steps={STEPS}", "val_clips=4", "log_every=100", "eval_every=100"),
    *("save_every=100", "threads=1", "num_frames=4"),
]


@contextlib.contextmanager
def recorded_step(ledger: Ledger, kind: type) -> Iterator[None]:
    """Record what one step of a training did by itself."""
    plain = kind.learning_rate

    def learning_rate(task: object, step: int) -> float:
        if step == STEP:
            ledger.begin_step()
        if step == STEP + 1:
            ledger.end_step()
        return plain(task, step)

    with mock.patch.object(kind, "learning_rate", learning_rate):
        yield


def trained(ledger: Ledger, task: Task) -> object:
    """Train a task; return the losses of its last step and what was validated."""
    with recorded_step(ledger, type(task)):
        last = run_task(task)["last"]
    return {name: value for name, value in last.items() if name not in PACE}


def train(
    ledger: Ledger, kind: type[Task], command: str, words: list[str], *parts: object
) -> object:
    """Train a task on random clips; words may override those of the loop."""
    clips, run = Clips(), [f"device={ledger.device}", f"bf16={ledger.low is not False}"]
    with tempfile.TemporaryDirectory() as folder:
        options = compose_options(command, [*LOOP, *run, *PREDICTOR, *words, f"out={folder}"])
        return trained(ledger, kind(options, Sources(clips, clips), *parts))


@case
def train_joint(ledger: Ledger) -> object:
    words = ["object=1", "head_weight=1", "head_match=1", "pattern=0.2", "rollout_kind=free"]
    return train(ledger, JointTask, "train", [*SMALL, *words, "plan_clips=0"])


@case
def train_joint_published(ledger: Ledger) -> object:
    return train(ledger, JointTask, "train", [*SMALL, "plan_clips=0", "accumulate=2"])


@case
def train_frozen(ledger: Ledger) -> object:
    start = Start(encoder=small_encoder())
    return train(ledger, JointTask, "train", ["mode=frozen", "plan_clips=0"], start)


@case
def train_finetune(ledger: Ledger) -> object:
    start = Start(encoder=small_encoder())
    return train(ledger, JointTask, "train", ["mode=finetune", "plan_clips=0"], start)


@case
def train_post(ledger: Ledger) -> object:
    words = ["mode=post", "plan_clips=0"]
    return train(ledger, PostTask, "train", words, small_encoder())


@case
def train_post_compiled(ledger: Ledger) -> object:
    """Train blocks whose parts are compiled on a device."""
    words = ["mode=post", "plan_clips=0", f"compile={ledger.device == 'cuda'}"]
    return train(ledger, PostTask, "train", words, small_encoder())


@case
def train_joint_logged(ledger: Ledger) -> object:
    """A step whose metrics are written."""
    return train(ledger, JointTask, "train", [*SMALL, "plan_clips=0", "log_every=1"])


@case
def train_images(ledger: Ledger) -> object:
    words = [f"image_size={SIDE}", "patch_size=4", "encoder_dim=16", "encoder_depth=2"]
    words += ["encoder_heads=2", "predictor_dim=16", "predictor_depth=2", "min_keep=2", "warmup=1"]
    words += [f"device={ledger.device}", f"bf16={ledger.low is not False}"]
    loop = [word for word in LOOP if not word.startswith("num_frames")]
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(Clips().arrays["frames"][:, 0]):
            Image.fromarray(image).save(Path(folder) / f"{number}.png")
        where = [f"data={folder}", f"val={folder}", f"out={folder}/run"]
        options = compose_options("pretrain", ["mode=images", *loop, *words, *where])
        return trained(ledger, ImagePretrainTask.open(options, Ranks()))


@case
def train_pretrain(ledger: Ledger) -> object:
    words = ["image_size=32", "stem=patch", "patch_size=8", "tubelet_size=2", "encoder_dim=32"]
    words += ["encoder_heads=2", "encoder_depth=2"]
    return train(ledger, PretrainTask, "pretrain", words)


@case
def pretrain_graphed(ledger: Ledger) -> object:
    """Steps on made clips that are recorded as CUDA graphs, one for each shape of a batch."""
    words = ["mode=shapes", "image_size=32", "stem=patch", "patch_size=8", "tubelet_size=2"]
    words += ["encoder_dim=32", "encoder_heads=2", "encoder_depth=2", "short_blocks=3"]
    words += ["long_blocks=1", "long_scale=0.5", "alternate=true", "max_targets=5", "steps=4"]
    words += ["probe_clips=64", "val_clips=64", "num_clips=512", f"device={ledger.device}"]
    words += [f"bf16={ledger.low is not False}", f"cuda_graph={ledger.device == 'cuda'}"]
    with tempfile.TemporaryDirectory() as folder:
        options = compose_options("pretrain", [*LOOP, *PREDICTOR, *words, f"out={folder}"])
        last = run_task(ShapesPretrainTask.open(options))["last"]
    return {name: last[name] for name in ("loss", "val_loss", "val_mean", "effective_rank")}
