"""Train a slow dynamics of macro-actions on the tokens of a trained world model (`mode=macro`).

Shapes: B clips, T frames, N tokens, D width, M macro-actions, L actions of one, A action, C code, Q
stored sequences.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.checkpoints.io import Model, save
from worldmodel.errors import ConfigError
from worldmodel.models.config import MacroConfig, PredictorConfig
from worldmodel.models.config_dict import to_dict
from worldmodel.models.macro import MacroDynamics
from worldmodel.models.object_head import ObjectHead
from worldmodel.models.world_model import WorldModel
from worldmodel.specs import ActionSpec
from worldmodel.training.batches import Batch
from worldmodel.training.distributed import Ranks
from worldmodel.training.losses import prediction_loss
from worldmodel.training.macro_options import MacroOptions, MacroSizes
from worldmodel.training.metrics import Row
from worldmodel.training.small_models import check_cameras, check_conventions, simulator_label
from worldmodel.training.sources import Sources, choose_clips, open_memory
from worldmodel.training.start_models import open_world
from worldmodel.training.task import part_of
from worldmodel.training.tasks.memory import MemoryTask
from worldmodel.training.verdict import Finding, judge_prediction


class MacroObjective(nn.Module):
    """Slow dynamics and its losses; the object head, if there is one, is frozen."""

    def __init__(self, macro: MacroDynamics, sizes: MacroSizes, head: ObjectHead | None) -> None:
        """Compose the objective."""
        super().__init__()
        self.macro, self.sizes, self.object_head = macro, sizes, head

    def codes(self, actions_BKA: Tensor) -> Tensor:
        """Encode the actions of clips to codes [B, M, C]."""
        sequences_BMLA = actions_BKA.unflatten(1, (-1, self.macro.span))
        codes_BC = self.macro.encode_actions(sequences_BMLA.flatten(0, 1))
        return codes_BC.unflatten(0, sequences_BMLA.shape[:2])

    def forward(self, batch: Batch) -> Batch:
        """Return the loss and its parts for tokens and actions."""
        z_BTND, codes_BMC = batch["features"], self.codes(batch["actions"])
        noise = self.sizes.code_noise
        if self.training and noise:
            codes_BMC = (codes_BMC + noise * torch.randn_like(codes_BMC)).clamp(-1, 1)
        target_BMND = z_BTND[:, self.macro.span :: self.macro.span]
        out_BMND = self.macro.unroll(z_BTND[:, 0], codes_BMC)
        parts = {"rollout": prediction_loss(out_BMND, target_BMND)}
        total = parts["rollout"]
        if self.sizes.macro_match:
            assert self.object_head is not None
            parts["macro_match"] = self.object_head.match(out_BMND, target_BMND)
            total = total + self.sizes.macro_match * parts["macro_match"]
        return {"loss": total, **parts}


class MacroTask(MemoryTask):
    """Trains a slow dynamics on clips whose frames are encoded once."""

    options: MacroOptions
    objective: MacroObjective

    def __init__(self, options: MacroOptions, sources: Sources, world: WorldModel) -> None:
        """Prepare a run for a world model; the sources are clips with frames."""
        super().__init__(options, sources)
        self.world = world.requires_grad_(False)

    @classmethod
    def open(cls, options: MacroOptions, ranks: Ranks, given: Model | None = None) -> MacroTask:
        """Open the world model and the clips.

        Args:
            options: Options of the run.
            ranks: Processes of the run.
            given: Model that `encoder=` names; None loads it.

        Raises:
            ConfigError: The model has no object head that a weight needs, or other conventions than
                the data.
            DataError: There are no usable episodes.
        """
        world = open_world(options.start.encoder, given)
        if options.macro.macro_match and world.object_head is None:
            raise ConfigError(
                f"macro_match={options.macro.macro_match:g} needs an object head, which encoder="
                f"{options.start.encoder} lacks: set macro_match=0, or choose another model"
            )
        check_cameras(world.observation_spec.cameras, options.clips)
        clips, unseen = open_memory(options.run, options.clips, world.image_size[0], ranks)
        sample = clips.batch(np.arange(1))
        action = ActionSpec(
            action_dim=sample["actions"].shape[-1],
            gripper="command" if clips.sent else "difference",
            period_s=1 / options.clips.fps,
        )
        check_conventions(world.dynamics, action, sample["states"].shape[-1])
        return cls(options, Sources(clips, unseen), world)

    def start_modules(self) -> Iterable[nn.Module]:
        """Return the parts of the world model."""
        parts = (self.world.encoder, self.world.dynamics, self.world.object_head)
        return [part for part in parts if part is not None]

    def blocks(self) -> Iterable[nn.Module]:
        """Return the slow predictor's transformer blocks."""
        return list(self.objective.macro.predictor.predictor_blocks)

    def build(self, device: torch.device) -> nn.Module:
        """Build the slow dynamics, encode all frames, and draw the stored sequences."""
        self.device = device
        macro = MacroDynamics(self._config())
        encoder = self.world.encoder.to(device)
        self._encode_sources(encoder)
        macro.sequences_QLA.copy_(self._sequences())
        objective = MacroObjective(macro, self.options.macro, self.world.object_head)
        self.objective = objective.to(device)
        self._place_clips(device)
        return self.objective

    def _config(self) -> MacroConfig:
        fast, sizes = self.world.config, self.options.macro
        predictor = PredictorConfig(
            grid=fast.predictor.grid,
            num_views=fast.predictor.num_views,
            encoder_dim=fast.predictor.encoder_dim,
            embed_dim=sizes.macro_dim,
            depth=sizes.macro_depth,
            num_heads=sizes.macro_heads,
            num_frames=max(4, (self.options.clips.num_frames - 1) // sizes.span),
            action_dim=sizes.code_dim,
            state_dim=fast.predictor.state_dim,
            use_state=False,
            has_extrinsics_encoder=False,
            rope="interleaved",
            residual=True,
            embed_init_std=0.3,
        )
        count = fast.predictor.action_dim
        return MacroConfig(
            predictor=predictor,
            span=sizes.span,
            num_actions=count,
            hidden_dim=sizes.macro_dim,
            num_sequences=sizes.num_sequences,
            action_scale=fast.scaling.action_scale or (1.0,) * count,
            normalise_tokens=fast.scaling.normalise_tokens,
        )

    def _sequences(self) -> Tensor:
        """Draw recorded sequences [Q, L, A], of which the first is to do nothing."""
        sizes, clips = self.options.macro, self.sources.train
        chosen = choose_clips(clips, sizes.num_sequences, self.options.run.seed)
        chosen = np.resize(chosen, sizes.num_sequences)
        parts = np.array_split(chosen, -(-len(chosen) // 64))
        actions_QKA = np.concatenate([clips.batch(part)["actions"] for part in parts])
        rng = np.random.default_rng(self.options.run.seed)
        firsts_Q = rng.integers(0, actions_QKA.shape[1] - sizes.span + 1, len(actions_QKA))
        steps_QL = firsts_Q[:, None] + np.arange(sizes.span)
        rows_Q1 = np.arange(len(actions_QKA))[:, None]
        sequences_QLA = torch.from_numpy(actions_QKA[rows_Q1, steps_QL])
        sequences_QLA[0] = 0.0
        return sequences_QLA

    @torch.no_grad()
    def validate(self) -> Row:
        """Measure the errors by macro-action, of copies, and with macro-actions of other clips."""
        objective, batch = self.objective.eval(), self.held_out
        z_BTND = batch["features"].float()
        target_BMND = z_BTND[:, objective.macro.span :: objective.macro.span]
        codes_BMC = objective.codes(batch["actions"])
        out_BMND = objective.macro.unroll(z_BTND[:, 0], codes_BMC).float()
        wrong_BMND = objective.macro.unroll(z_BTND[:, 0], codes_BMC.roll(1, 0)).float()
        copy_BMND = z_BTND[:, :1].expand_as(target_BMND)
        row = {
            f"val_{name}": float((z - target_BMND).abs().mean())
            for name, z in (("true", out_BMND), ("shuffled", wrong_BMND), ("copy", copy_BMND))
        }
        for m in range(target_BMND.shape[1]):
            error = (out_BMND[:, m] - target_BMND[:, m]).abs().mean()
            row[f"val_macro_{m + 1}"] = float(error)
        objective.train()
        return row

    def findings(self, row: Row) -> list[Finding]:
        """Judge predictions and their use of macro-actions."""
        return judge_prediction(row)

    def export(self, path: Path, weights: dict[str, Tensor]) -> dict[str, object]:
        """Write the world model with its slow dynamics in half precision."""
        with torch.random.fork_rng(devices=[]):
            macro = MacroDynamics(self.objective.macro.config)
        macro.load_state_dict(part_of(weights, "macro"))
        start = self.world
        world = WorldModel(start.encoder, start.dynamics, start.object_head, macro, start.home_head)
        label = "yes" if simulator_label(self.options.start.encoder) else "no"
        save(path, world, notes={"simulator_label": label}, dtype=torch.float16)
        return {
            "parameters": sum(p.numel() for p in world.parameters()),
            "macro_parameters": sum(p.numel() for p in macro.parameters()),
            "simulator_label": label,
            "model": to_dict(world.config),
        }
