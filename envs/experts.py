"""Waypoints of the scripted expert for each task, from the true state of the scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.expert import (
    TRAVEL_Z_M,
    WayPoint,
    carry_points,
    grasp_points,
    pick_place_points,
    push_points,
)
from envs.layout import Layout
from envs.mujoco_arm import MujocoArm
from envs.objects import SceneObject
from envs.shapes import ANY_YAW
from envs.tasks import Task, is_one_image

OVER_WALL_M = 0.025
"""Height at which a carried object passes over a wall [m]."""
DONE_M, DONE_RAD = 0.01, 0.05
"""An object this close to its target is left alone [m, rad]."""

WRIST_LOW_RAD, WRIST_HIGH_RAD = -1.8, 2.6
"""Yaws of the gripper that the wrist reaches everywhere on the table."""


def expert_points(
    task: Task, arm: MujocoArm, items: Sequence[SceneObject], layout: Layout
) -> list[WayPoint]:
    """Return the expert's waypoints from the current state.

    Args:
        task: The task.
        arm: The arm.
        items: Objects of the scene.
        layout: Start and goal of the episode.
    """
    item, tcp_m = items[0], arm.data.site_xpos[arm.tcp].copy()
    if is_one_image(task):
        return _carry_all(task, arm, items, layout)
    if task.name == "grasp":
        return grasp_points(item.position_m)
    if task.name == "pick_place":
        return pick_place_points(item.position_m, layout.targets_m[0])
    if task.name == "push":
        half = float(item.model.geom_size[item.geoms[0]][0])
        step_m = arm.embodiment.push_step_m
        return push_points(item.position_m, layout.targets_m[0], half, tcp_m, step_m)
    return [WayPoint(tuple(layout.goal_tcp_m), 0.0, "reached", 10)]


def _carry_all(
    task: Task, arm: MujocoArm, items: Sequence[SceneObject], layout: Layout
) -> list[WayPoint]:
    """Carry each object to its target, then move the arm back to its start."""
    travel_m = TRAVEL_Z_M
    if layout.wall is not None:
        highest = max(item.half_height_m for item in items)
        travel_m = max(travel_m, layout.wall.height_m + highest + OVER_WALL_M)
    x, y, z = (float(v) for v in arm.data.site_xpos[arm.tcp])
    points = [WayPoint((x, y, max(z, travel_m)), -1.0)]
    for index in range(task.num_moving):
        points += _carry(items[index], layout, index, travel_m, arm.yaw_rad)
    home = tuple(float(v) for v in layout.tcp_m)
    return [*points, WayPoint((*home[:2], max(home[2], travel_m)), yaw_rad=0.0), WayPoint(home)]


def _carry(
    item: SceneObject, layout: Layout, index: int, travel_m: float, gripper_rad: float
) -> list[WayPoint]:
    target_m, period = layout.targets_m[index], item.shape.yaw_period_rad
    turn = 0.0
    if period != ANY_YAW:
        left = layout.target_yaws_rad[index] - item.yaw_rad
        turn = float((left + period / 2) % period - period / 2)
    close = np.linalg.norm(item.position_m[:2] - target_m) < DONE_M
    if close and abs(turn) < DONE_RAD:
        return []
    grip = grip_yaw_rad(item, turn, layout, gripper_rad)
    return carry_points(item.position_m, target_m, grip, grip + turn, travel_m)


def grip_yaw_rad(item: SceneObject, turn_rad: float, layout: Layout, gripper_rad: float) -> float:
    """Choose among the yaws that grip an object the one that suits the wrist and the wall.

    Without a wall the rotations before and after turning the object are both kept small. Beside a
    wall the wide side of the hand is kept parallel to it.

    Args:
        item: Object to grip.
        turn_rad: Rotation while it is held.
        layout: Layout with the wall.
        gripper_rad: Current yaw of the gripper.
    """
    period = min(item.shape.yaw_period_rad, np.pi)
    beside = None if layout.wall is None else layout.wall.yaw_rad
    if period == ANY_YAW:
        free = gripper_rad if beside is None else beside
        return float((free + np.pi / 2) % np.pi - np.pi / 2)

    def cost(yaw: float) -> float:
        across = 0.0 if beside is None else abs(np.sin(yaw - beside))
        low, high = min(yaw, yaw + turn_rad), max(yaw, yaw + turn_rad)
        beyond = max(0.0, WRIST_LOW_RAD - low) + max(0.0, high - WRIST_HIGH_RAD)
        return 100 * beyond + 10 * across + max(-low, high)

    return float(min((item.yaw_rad + k * period for k in range(-8, 9)), key=cost))
