"""Macro dynamics: predict the tokens after a whole sequence of actions, from a learned code of it.

An encoder maps the actions to a macro-action, a few numbers within +-1, and a second predictor
takes one step per macro-action in the latent space of the world model. Planning with it finds the
sub-goals of the fast predictor. Source: HWM (arXiv 2604.03208).

Shapes: B samples, N tokens, D width, M macro-actions, L actions of a macro-action, A action, C
code, Q stored sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldmodel.errors import ShapeError
from worldmodel.models.ac_predictor import ActionConditionedPredictor, CacheList
from worldmodel.models.config import MacroConfig
from worldmodel.models.frame_encoder import normalise
from worldmodel.models.precision import Float32Module
from worldmodel.models.rope import constant


class MacroDynamics(Float32Module):
    """Encoder of action sequences and slow predictor; see the module's docstring.

    It stays float32 when its world model is converted to bfloat16.
    """

    def __init__(self, config: MacroConfig) -> None:
        """Build it with random weights and without stored sequences."""
        super().__init__()
        self.config = c = config
        self.encoder = nn.Sequential(
            nn.Linear(c.span * c.num_actions, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.hidden_dim),
            nn.GELU(),
            nn.Linear(c.hidden_dim, c.predictor.action_dim),
            nn.Tanh(),
        )
        self.predictor = ActionConditionedPredictor(c.predictor)
        self.register_buffer("sequences_QLA", torch.zeros(c.num_sequences, c.span, c.num_actions))
        self.sequences_QLA: Tensor
        """Recorded sequences of actions in the model's units, whose codes start every search."""

    @property
    def span(self) -> int:
        """Number of actions of a macro-action."""
        return self.config.span

    @property
    def max_steps(self) -> int:
        """Maximum number of macro-actions in a row."""
        return self.config.predictor.num_frames

    def encode_actions(self, actions_BLA: Tensor) -> Tensor:
        """Encode sequences of `span` actions to codes [B, C] within +-1.

        Raises:
            ShapeError: The sequences have another length.
        """
        if actions_BLA.shape[-2] != self.span:
            raise ShapeError(
                f"{actions_BLA.shape[-2]} actions were given; a macro-action has {self.span}"
            )
        scaled_BLA = actions_BLA / constant(self.config.action_scale, actions_BLA)
        codes_BC: Tensor = self.encoder(scaled_BLA.flatten(-2))
        return codes_BC

    def unroll(self, z_BND: Tensor, codes_BMC: Tensor) -> Tensor:
        """Predict the tokens [B, M, N, D] after each of M macro-actions.

        Args:
            z_BND: Tokens of the current frame; batch 1 is shared by all samples.
            codes_BMC: Codes of the macro-actions.

        Raises:
            ShapeError: There are more macro-actions than the predictor takes frames.
        """
        cache: CacheList | None = None
        frame, out = z_BND.float(), []
        no_state = frame.new_zeros(1, self.config.predictor.state_dim)
        for m in range(codes_BMC.shape[1]):
            frame, cache = self.predictor.step(frame, codes_BMC[:, m].float(), no_state, cache)
            frame = normalise(frame) if self.config.normalise_tokens else frame
            out.append(frame)
        return torch.stack(out, dim=1)
