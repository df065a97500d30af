"""Cases of the guard that use models: encoding, imagination, planning, probes and figures."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from planning.apps.policies import open_policy
from planning.bounds import Bounds
from planning.energy import energy
from planning.planner import Memory, Observation, Planner, PlannerConfig
from planning.planner_options import PlannerOptions
from planning.skills.imagination import Imagination
from planning.solvers.device_cem import DeviceCEM
from planning.solvers.registry import NAMES, make_optimiser
from tests.cuda_guard.guards import NUM_ITERATIONS, NUM_PLANS
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.models import (
    HEADS,
    SIDE,
    TOKENS,
    WIDTH,
    Clips,
    small_encoder,
    small_networks,
    small_world,
)
from tests.cuda_guard.registry import CASES, case
from worldmodel.checkpoints.io import copy_on_cpu
from worldmodel.checkpoints.loading import load_world_model, place
from worldmodel.evaluation.energy_grid import energy_grid
from worldmodel.evaluation.latent_probes import probe_world_model
from worldmodel.evaluation.rollout_error import offline_action_error, rollout_errors
from worldmodel.evaluation.rollout_table import RolloutClips, rollout_table
from worldmodel.models.config import ProbeConfig
from worldmodel.models.kernels.compiled_blocks import CompiledBlock
from worldmodel.models.probe import AttentiveClassifier
from worldmodel.models.world_model import WorldModel
from worldmodel.perception.anticipation.pipeline import AnticipationProbe, anticipation_tokens
from worldmodel.perception.boxes.features import pool_boxes
from worldmodel.perception.features.extract import FeatureConfig, write_features
from worldmodel.perception.heads.grid import grid
from worldmodel.perception.probes.classifiers import ProbeGrid, probabilities
from worldmodel.perception.probes.frozen_tokens import view_tokens
from worldmodel.perception.surprise.measure import SurpriseConfig, SurpriseModel, video_surprises
from worldmodel.training.decoder import DecoderData, fit_decoder

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
BEFORE_AFTER = ("now.png", "goal.png")


def frames(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8)


def observed(ledger: Ledger) -> tuple[Observation, Tensor]:
    """Return an observation and goal tokens on the device."""
    goal_1ND = ledger.randn(1, TOKENS, WIDTH)
    return Observation(ledger.randn(1, TOKENS, WIDTH), ledger.randn(1, 7)), goal_1ND


@case
def encode(ledger: Ledger) -> object:
    world, images = ledger.placed(small_world()), frames()
    z_BND = world.encode(images)
    clips_BND = ledger.placed(small_encoder()).encode_clip(frames(4)[None])
    assert {z_BND.device.type, clips_BND.device.type} == {ledger.device}
    return z_BND, clips_BND, world.locate(z_BND).position_m


@case
@torch.no_grad()
def unroll(ledger: Ledger) -> object:
    world = ledger.placed(small_world())
    randn = ledger.randn
    past = world.remember(randn(1, 1, TOKENS, WIDTH), randn(1, 1, 7), randn(1, 1, 7))
    out = world.unroll(randn(1, TOKENS, WIDTH), randn(1, 7), randn(5, 3, 7), past)
    assert out.shape == (5, 3, TOKENS, WIDTH)
    return out


@case
@torch.no_grad()
def bfloat16(ledger: Ledger) -> None:
    world = ledger.placed(small_world()).bfloat16()
    z_BND = world.encode(frames(1))
    world.unroll(z_BND, ledger.randn(1, 7), ledger.randn(5, 3, 7))


def plan_with(name: str, ledger: Ledger) -> object:
    """Plan twice between two pictures by the embedded model.

    Its energies lie far enough apart that the rounding of a device does not change the plan.
    """
    world = ledger.placed(load_world_model("default", "cpu"))
    pictures = np.stack([np.asarray(Image.open(PICTURES / x)) for x in BEFORE_AFTER])
    z_2ND = world.encode(world.preprocess(torch.from_numpy(pictures)))
    state_1S = torch.tensor([[0.45, 0.0, 0.3, 3.1, 0.0, -0.8, 0.0]]).to(ledger.device)
    seen = Observation(z_2ND[:1], state_1S)
    return two_plans(world, name, ledger, [(seen, z_2ND[1:])] * 2)


for _name in NAMES:
    if _name != "nevergrad" or find_spec("nevergrad"):
        CASES[f"plan_{_name}"] = functools.partial(plan_with, _name)


def random_plans(name: str, ledger: Ledger) -> object:
    """Plan twice between random tokens by a random model."""
    world = ledger.placed(small_world())
    return two_plans(world, name, ledger, [observed(ledger), observed(ledger)])


def two_plans(
    world: WorldModel, name: str, ledger: Ledger, steps: list[tuple[Observation, Tensor]]
) -> object:
    solver = make_optimiser(name, samples=8, iterations=3, elites=3, device=ledger.device)
    memory, plans = Memory.start(), []
    planner = Planner(world, PlannerConfig(optimiser=solver, history=2, warm_start=True))
    for seen, goal_1ND in steps:
        plan, memory = planner.plan(seen, goal_1ND, memory)
        plans.append((plan.actions_KA, plan.energy))
    return plans


def several_plans(ledger: Ledger, *, together: bool) -> object:
    """Plan with one shape; all plans but the first are recorded."""
    world = ledger.placed(small_world())
    solver = DeviceCEM(num_samples=8, iterations=NUM_ITERATIONS, num_elites=3, device=ledger.device)
    config = PlannerConfig(optimiser=solver, together=together)
    planner = Planner(world, config, Bounds(low_m=(0.3, -0.3, 0.1)))
    memory, plans = Memory.start(), []
    for index in range(1 + NUM_PLANS):
        if index == 1:
            ledger.begin_step()
        seen, goal_1ND = observed(ledger)
        plan, memory = planner.plan(seen, goal_1ND, memory)
        plans.append((plan.actions_KA, plan.energy))
    ledger.end_step()
    return plans


@case
def captured(ledger: Ledger) -> object:
    return several_plans(ledger, together=False)


@case
def captured_together(ledger: Ledger) -> object:
    return several_plans(ledger, together=True)


@case
def skills(ledger: Ledger) -> object:
    world = ledger.placed(small_world())
    imagination = Imagination(world, memory=4)
    actions = np.zeros((3, 6, 7), np.float32)
    z_1ND, state_1S = ledger.randn(1, TOKENS, WIDTH), ledger.randn(1, 7)
    ends = imagination.ends(z_1ND, state_1S, actions, np.array([6, 2, 0]))
    return imagination.latent_energy(ends, z_1ND), imagination.object_energy(ends, [])


@case
def energies(ledger: Ledger) -> object:
    world, randn = ledger.placed(small_world()), ledger.randn
    surface = energy_grid(world, frames(), torch.zeros(2, 7), num_points=3)
    data = randn(2, 4, TOKENS, WIDTH), randn(2, 4, 7), randn(2, 3, 7)
    errors = rollout_errors(world, *data)
    action_error = offline_action_error(world, *data, iterations=2)
    energies_B = energy(randn(3, TOKENS, WIDTH), randn(1, TOKENS, WIDTH), "l2")
    return surface, errors, action_error, energies_B


@case
def features(ledger: Ledger) -> object:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(frames(1)[0].numpy()).save(Path(folder) / "a.png")
        for model in (ledger.placed(small_world()), ledger.placed(small_encoder())):
            name = type(model).__name__
            out = Path(folder) / f"{name}.h5"
            write_features(Path(folder) / "a.png", out, model, "small", FeatureConfig())
            with h5py.File(out) as file:
                file.visititems(functools.partial(_read_dataset, found, name))
    return found


def _read_dataset(found: dict[str, np.ndarray], prefix: str, name: str, item: object) -> None:
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
        found[f"{prefix}/{name}"] = item[()]


@case
def probe_heads(ledger: Ledger) -> object:
    config = ProbeConfig(embed_dim=WIDTH, num_heads=HEADS, depth=2, num_classes=3)
    encoder = ledger.placed(small_encoder())
    views = frames(2 * 2 * 4).unflatten(0, (1, 2, 2, 4))
    tokens_VBND = view_tokens(encoder, views)
    found = []
    for depth, low in ((2, None), (1, torch.bfloat16), (1, torch.float16)):
        sizes = dataclasses.replace(config, depth=depth)
        heads = ProbeGrid(sizes, grid((1e-3, 1e-4), (0.1,)), total_steps=2, low=low)
        heads = heads.to(ledger.device)
        heads.update(tokens_VBND, torch.zeros(2, dtype=torch.long).to(ledger.device))
        found.append(probabilities(heads, tokens_VBND))
    boxes = pool_boxes(tokens_VBND[0, 0], encoder.token_grid, [(0.1, 0.2, 0.6, 0.9)])
    return found, boxes, ledger.placed(AttentiveClassifier(config))(tokens_VBND[0])


@case
def inspected(ledger: Ledger) -> object:
    """Probes of latents, and the table of rollouts with the model's own object head."""
    world = ledger.placed(small_world())
    probes = probe_world_model(world, Clips(), Clips(), count=4, steps=2)
    clips = RolloutClips(
        z_CTND=torch.randn(3, 4, TOKENS, WIDTH),
        states_CTS=torch.zeros(3, 4, 7),
        actions_CKA=torch.zeros(3, 3, 7),
        poses_CTM4=torch.rand(3, 4, 1, 4),
    )
    assert world.object_head is not None
    return probes, rollout_table(world, world.object_head, clips, (1, 3))


@case
def surprise(ledger: Ledger) -> object:
    """Surprises of a video, and anticipation."""
    encoder, target, predictor = (ledger.placed(part) for part in small_networks())
    config = SurpriseConfig(num_frames=4, contexts=(2,))
    found = video_surprises(SurpriseModel(encoder, target, predictor), frames(6), config)
    probe = AnticipationProbe(
        ProbeConfig(embed_dim=WIDTH, num_heads=HEADS, depth=2, num_queries=1), {"action": 3}
    )
    with torch.no_grad():
        clip_BCTHW = ledger.randn(1, 3, 4, SIDE, SIDE).to(next(encoder.parameters()).dtype)
        tokens = anticipation_tokens(encoder, predictor, clip_BCTHW, torch.ones(1))
        action = probe.to(ledger.device)(tokens)["action"]
    assert action.device.type == ledger.device
    return found, action


@case
def surprise_bfloat16(ledger: Ledger) -> None:
    surprise(dataclasses.replace(ledger, low=True))


@case
def policies(ledger: Ledger) -> object:
    """What plan, drive, eval and calibrate do: a policy of a loaded model plans on its device."""
    world = place(small_world(), ledger.device)
    policy = open_policy(world, PlannerOptions(samples=8, iterations=3, elites=3))
    image, state = np.zeros((48, 64, 3), np.uint8), [0.5, 0.0, 0.3, 3.0, 0.0, -0.8, 0.0]
    plan, _memory = policy.plan({"image": image, "state": np.array(state)}, policy.encode(image))
    assert plan.actions_KA.device.type == "cpu"
    again = place(copy_on_cpu(world), ledger.device)  # for another process
    assert again.encoder.device.type == ledger.device
    if ledger.device == "cuda":
        assert {world.dynamics.dtype, again.dynamics.dtype} == {torch.bfloat16}
        kinds = {type(block) for block in again.predictor.predictor_blocks}
        assert kinds == {CompiledBlock}
        assert isinstance(policy.planner.config.optimiser, DeviceCEM)
        assert policy.planner.config.optimiser.kept
        assert policy.planner.config.together
        alone = open_policy(world, PlannerOptions(samples=8, elites=3, min_spread_m=1e-3))
        assert not alone.planner.config.together  # a batch would end its searches together
    return plan.energy


@case
def decoder(ledger: Ledger) -> object:
    world = place(small_world(), ledger.device)
    data = DecoderData(frames(8), torch.randn(8, TOKENS, WIDTH), torch.arange(8))
    fitted = fit_decoder(world, data, steps=2, batch_size=4)
    assert fitted.last.weight.device.type == "cpu"
    return fitted.decode(data.z_FND[:2], data.frames_FHW3[:2])
