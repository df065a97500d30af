"""Train anticipation probes on a frozen encoder and predictor: `worldmodel anticipate train`.

Source: V-JEPA 2 (arXiv 2506.09985), sec. 6 and the configurations of the released training.

Shapes: B clips, T frames, N tokens, D width, P heads, C classes.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.atomic_io import atomic_file, write_json
from worldmodel.data.episode import rejecting
from worldmodel.data.video import inspect_video
from worldmodel.errors import DataError
from worldmodel.models.config import ProbeConfig
from worldmodel.models.layers import initialise, rescale_blocks
from worldmodel.perception.anticipation.config import (
    DECAYS,
    RATES,
    RELEASED_ANCHOR,
    AnticipateTrainOptions,
)
from worldmodel.perception.anticipation.epic_kitchens import (
    Action,
    AnticipationClip,
    class_order,
    read_actions,
)
from worldmodel.perception.anticipation.evaluation import (
    Networks,
    read_clip,
    score_probes,
    video_path,
)
from worldmodel.perception.anticipation.fresh_clips import FreshClips, name_of
from worldmodel.perception.anticipation.networks import load_backbones, place_networks
from worldmodel.perception.anticipation.pipeline import (
    TARGETS,
    AnticipationProbe,
    FutureConfig,
    Target,
    focal_loss,
)
from worldmodel.perception.heads.fitting import Fitting, fit, generator_of, run_facts
from worldmodel.perception.heads.grid import HeadGrid, grid
from worldmodel.perception.probes.frozen_encoder import low_precision
from worldmodel.perception.sharing import OneProcess, Processes, sum_in_place

log = logging.getLogger(__name__)
TRAIN = "EPIC_100_train.csv"
Logits = dict[Target, Tensor]


def summed_focal_loss(logits: Logits, labels_B3: Tensor) -> Tensor:
    """Return the focal losses of all targets, summed over clips and classes."""
    losses = [
        focal_loss(logits[target].float(), labels_B3[:, i])
        for i, target in enumerate(TARGETS)
        if target in logits
    ]
    return torch.stack(losses).sum()


def new_probe(config: ProbeConfig, num_classes: dict[Target, int]) -> AnticipationProbe:
    """Return a probe with the published initial weights."""
    probe = AnticipationProbe(config, num_classes)
    initialise(probe.pooler)
    rescale_blocks(probe.pooler.blocks)
    return probe


def divide_videos(
    actions: Sequence[Action], share: float, seed: int
) -> tuple[list[Action], list[Action]]:
    """Return the actions that are trained on, and those of videos that are held out.

    Raises:
        DataError: There are too few videos.
    """
    videos = list(dict.fromkeys(action.video for action in actions))
    order = torch.randperm(len(videos), generator=generator_of(seed, 0)).tolist()
    held = {videos[i] for i in order[: math.ceil(share * len(videos))]}
    fitted = [action for action in actions if action.video not in held]
    if not fitted:
        raise DataError(
            f"the training annotations have {len(videos)} usable videos, which leave none to train "
            "on beside those that choose the head; add videos or lower choose_share"
        )
    return fitted, [action for action in actions if action.video in held]


def usable_actions(actions: Sequence[Action], root: Path, rejected: dict[str, str]) -> list[Action]:
    """Return the actions whose videos can be opened; note the others in `rejected`."""
    reasons: dict[str, str] = {}
    for video in dict.fromkeys(action.video for action in actions):
        try:
            with rejecting(video):
                inspect_video(video_path(root, video), decode=False)
        except DataError as error:
            log.warning("%s: %s", video, error)
            reasons[video] = str(error)
    rejected |= {name_of(a): reasons[a.video] for a in actions if a.video in reasons}
    return [action for action in actions if action.video not in reasons]


def require_readable(held: Sequence[Action], root: Path, clip: AnticipationClip) -> None:
    """Check before a long run that a held-out clip can be read.

    Raises:
        DataError: None can; the message has the first reason.
    """
    first = ""
    for action in held:
        try:
            with rejecting(name_of(action)):
                read_clip(root, action, clip, clip.draw(random.Random(0)))
        except DataError as error:
            first = first or str(error)
        else:
            return
    raise DataError(
        f"none of {len(held)} held-out clips can be read, so no head could be chosen; the first: "
        f"{first}. Use another seed=, or a larger choose_share="
    )


def train_anticipation(
    options: AnticipateTrainOptions, processes: Processes | None = None
) -> dict[str, Any]:
    """Train the grid of heads, choose one and save it; an interrupted run resumes exactly.

    Args:
        options: Options of the run.
        processes: Processes of the run; None is this one alone.

    Returns:
        The summary that is also written to summary.json.

    Raises:
        DataError: Too few usable actions.
        ConfigError: `out` holds another run.
    """
    processes = processes or OneProcess()
    device = processes.device(options.device)
    root, rejected = Path(options.videos), dict[str, str]()
    actions = read_actions(Path(options.annotations) / TRAIN, rejected)
    classes = class_order(actions)
    usable = usable_actions(actions, root, rejected)
    fitted, held = divide_videos(usable, options.choose_share, options.seed)
    require_readable(held, root, _clip(options, (1.0, 1.0), None))
    encoder, predictor, size = load_backbones(
        options.model, (options.num_heads, options.predictor_heads), options.image_size
    )
    place_networks((encoder, predictor), options.precision, device)
    future = FutureConfig(fps=options.fps, parts=options.parts)
    networks = Networks(encoder=encoder, predictor=predictor, probes=(), future=future)
    clips = FreshClips(
        networks,
        fitted,
        classes,
        root,
        _clip(options, options.seconds, RELEASED_ANCHOR if options.as_released else None),
        size,
        options.encode_batch,
        options.seed,
        options.augment,
        rejected,
    )
    fitting = _build(options, clips, processes, device)
    fit(fitting, processes, device)
    summary: dict[str, Any] = {}
    if not processes.rank:
        summary = _finish(options, fitting.heads, clips, held, device)
    processes.barrier()
    return summary


def _clip(
    options: AnticipateTrainOptions,
    seconds: tuple[float, float],
    anchor: tuple[float, float] | None,
) -> AnticipationClip:
    return AnticipationClip(
        num_frames=options.num_frames,
        fps=options.fps,
        seconds=seconds,
        anchor=anchor,
        as_released=options.as_released,
    )


def _build(
    options: AnticipateTrainOptions, clips: FreshClips, processes: Processes, device: torch.device
) -> Fitting[Logits]:
    """Build the grid of heads and say what it is trained on."""
    classes = clips.classes
    sizes = ProbeConfig(
        embed_dim=clips.networks.encoder.config.embed_dim,
        num_heads=options.probe_heads,
        depth=options.depth,
        num_queries=len(TARGETS),
    )
    counts: dict[Target, int] = {
        "verb": len(classes.verbs),
        "noun": len(classes.nouns),
        "action": len(classes.actions),
    }
    batches = math.ceil(len(clips.actions) / options.batch_size)
    heads: HeadGrid[Logits] = HeadGrid(
        lambda: new_probe(sizes, counts),
        summed_focal_loss,
        grid(
            RATES if options.lr is None else (options.lr,),
            DECAYS if options.weight_decay is None else (options.weight_decay,),
        ),
        options.epochs * batches,
        options.seed,
        is_mean=False,
        low=low_precision(options.precision, device),
        exchange=sum_in_place if processes.count > 1 else None,
    )
    networks = [clips.networks.encoder, clips.networks.predictor]
    items = [asdict(classes), [asdict(action) for action in clips.actions]]
    return Fitting(
        heads=heads,
        read=clips.read,
        numbers=torch.arange(len(clips.actions)),
        batches=batches,
        seed=options.seed,
        out=Path(options.out),
        facts=run_facts(asdict(options), networks, items),
        save_every=options.save_every,
        rejected=clips.rejected,
    )


def _finish(
    options: AnticipateTrainOptions,
    heads: HeadGrid[Logits],
    clips: FreshClips,
    held: Sequence[Action],
    device: torch.device,
) -> dict[str, Any]:
    """Choose a head by its recall of held-out actions; write the probes and the summary."""
    probes = [probe for probe in heads.heads.eval() if isinstance(probe, AnticipationProbe)]
    weights = next(clips.networks.encoder.parameters())
    for probe in probes:
        probe.to(device, weights.dtype)
    networks = Networks(
        encoder=clips.networks.encoder,
        predictor=clips.networks.predictor,
        probes=probes,
        future=clips.networks.future,
    )
    found = score_probes(
        networks,
        held,
        clips.classes,
        clips.root,
        _clip(options, (1.0, 1.0), None),
        image_size=(clips.image_size, clips.image_size),
        batch_size=options.encode_batch,
    )
    recalls = [scores["action"].mean_class_recall for scores in found.recalls]
    best = max(range(len(recalls)), key=recalls.__getitem__)
    out = Path(options.out)
    for name, kept in (("probe.pt", probes[best : best + 1]), ("heads.pt", probes)):
        states = [probe.float().cpu().state_dict() for probe in kept]
        with atomic_file(out / name) as part:
            torch.save({"classifiers": states, "parts": options.parts}, part)
    lost = {name_of(action) for action in clips.actions} & clips.rejected.keys()
    summary = {
        "options": asdict(options),
        "head": asdict(heads.settings[best]),
        "heads": len(probes),
        "trained_on": sum(name_of(action) not in lost for action in clips.actions),
        "chosen_on": len(held) - len(found.rejected),
        "classes": {"verb": len(clips.classes.verbs), "noun": len(clips.classes.nouns)}
        | {"action": len(clips.classes.actions)},
        "held_out": [{t: asdict(r) for t, r in scores.items()} for scores in found.recalls],
        "rejected": {"train": clips.rejected, "held out": found.rejected},
    }
    write_json(out / "summary.json", summary)
    return summary
