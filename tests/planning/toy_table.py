"""A table whose latent is the objects' poses, with exact grasping and pushing: model and scene."""

from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.specs import ActionSpec, ObservationSpec

REACH_M = 0.03
CONTACT_M = 0.032
HOME = np.array([0.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0])


@dataclass
class Pose:
    position_m: torch.Tensor
    yaw_rad: torch.Tensor
    yaw_certainty: torch.Tensor
    presence: torch.Tensor


class ToyModel:
    """Latent [B, 1, 5 M]: x, y, z, yaw and held of each object; the state is the fingertips'."""

    observation_spec = ObservationSpec(image_size=(4, 4), state_frame="tcp")
    action_spec = ActionSpec(gripper="command")

    def __init__(self, objects=1, head=True):
        self.objects, self.head, self.unrolled = objects, head, 0

    def preprocess(self, frames):
        return frames

    def encode(self, frames):
        """Pictures hold the poses in their first pixels, in 16 bits each."""
        flat = torch.as_tensor(frames).reshape(len(frames), -1).double()
        values = flat[:, : 10 * self.objects].reshape(len(frames), -1, 2)
        return ((values[..., 0] * 256 + values[..., 1]) / 10000 - 2)[:, None].float()

    encode_main = encode

    def convert_state(self, state, frame):
        return state

    def remember(self, frames, states, actions):
        return []

    def next_state(self, state, action):
        closed = torch.where(action[:, 6:].abs() > 0.15, (action[:, 6:] > 0).float(), state[:, 6:])
        return torch.cat([state[:, :6] + action[:, :6], closed], dim=-1)

    def step(self, z, state, action):
        after = self.next_state(state, action)
        objects = z.reshape(len(z), self.objects, 5).clone()
        tcp, closed = after[:, None, :3], after[:, None, 6] > 0.5
        gap = (objects[..., :3] - tcp).norm(dim=-1)
        held = objects[..., 4] > 0.5
        grips = closed & (state[:, None, 6] <= 0.5) & (gap < REACH_M)
        held = (held & closed) | grips
        objects[..., 4] = held.float()
        moved = after[:, None] - state[:, None]
        objects[..., :3] += moved[..., :3] * held[..., None]
        objects[..., 3] += moved[..., 5] * held
        away = objects[..., :2] - tcp[..., :2]
        distance = away.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        touched = closed & ~held & (tcp[..., 2] < 0.05) & (distance[..., 0] < CONTACT_M)
        pushed = tcp[..., :2] + away / distance * CONTACT_M
        objects[..., :2] = torch.where(touched[..., None], pushed, objects[..., :2])
        objects[..., 2] = torch.where(
            held, objects[..., 2], torch.full_like(objects[..., 2], 0.022)
        )
        return objects.reshape(len(z), 1, -1), after

    def unroll(self, z, state, actions, past=None):
        batch, horizon = actions.shape[:2]
        self.unrolled += batch * horizon
        z, state = z.expand(batch, -1, -1), state.expand(batch, -1)
        out = []
        for k in range(horizon):
            z, state = self.step(z, state, actions[:, k])
            out.append(z)
        return torch.stack(out, dim=1)

    def locate_at_home(self, z):
        return self.locate(z)

    def locate(self, z):
        if not self.head:
            return None
        objects = z.reshape(len(z), self.objects, 5)
        ones = torch.ones(len(z), self.objects)
        return Pose(objects[..., :3], objects[..., 3], ones, ones)


def picture(poses):
    """Encode object poses (x, y, z, yaw, held) as an image that `ToyModel.encode` reads."""
    values = np.round((np.asarray(poses, float).ravel() + 2) * 10000).astype(int)
    image = np.zeros(48, np.uint8)
    image[: 2 * len(values)] = np.stack([values // 256, values % 256], axis=-1).ravel()
    return image.reshape(4, 4, 3)


class ToyEnv:
    """The same table as an environment."""

    def __init__(self, poses, goal_poses, steps=30):
        self.model = ToyModel(len(poses))
        self.poses, self.goal_poses, self.steps = poses, goal_poses, steps

    def reset(self, *, seed=None):
        self.z = torch.tensor(self.poses, dtype=torch.float32).reshape(1, 1, -1)
        self.state = torch.tensor(HOME, dtype=torch.float32)[None]
        return self.observe(), self.info()

    def observe(self):
        poses = self.z.reshape(-1, 5).numpy()
        return {"image": picture(poses), "state": self.state[0].numpy()}

    def info(self):
        poses = self.z.reshape(-1, 5).numpy()
        gap = max(
            np.linalg.norm(p[:2] - g[:2]) for p, g in zip(poses, self.goal_poses, strict=True)
        )
        return {
            "success": gap < 0.02,
            "object_m": poses[0, :3],
            "target_m": np.array(self.goal_poses[0][:3]),
            "holding": bool((poses[:, 4] > 0.5).any()),
        }

    def step(self, action):
        self.z, self.state = self.model.step(self.z, self.state, torch.tensor(action)[None])
        return self.observe(), 0.0, False, False, self.info()

    def sub_goals(self, variant="default"):
        @dataclass
        class Goal:
            name: str
            image: np.ndarray
            state: np.ndarray
            steps: int

        return [Goal("done", picture(self.goal_poses), HOME.astype(np.float32), self.steps)]


def pose(x, y, yaw=0.0):
    return [x, y, 0.022, yaw, 0.0]
