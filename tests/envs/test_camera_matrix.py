"""The camera matrix agrees with the rendered image."""

import mujoco
import numpy as np
import pytest

import envs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_object_is_where_the_matrix_projects_it(seed):
    env = envs.make("reach_with_object", image_size=160)
    env.reset(seed=seed)
    with_object = env.render().astype(int)
    matrix, place = env.camera_matrix(), env.items[0].position_m
    u, v, depth = matrix @ np.append(place, 1.0)
    env.items[0].put(np.array([5.0, 5.0]), 0.0)  # away from the camera
    mujoco.mj_forward(env.model, env.data)
    changed = np.abs(env.render().astype(int) - with_object).sum(-1) > 30
    rows, columns = np.nonzero(changed)
    assert depth > 0.3
    assert abs(u / depth * 160 - (columns.mean() + 0.5)) < 4
    assert abs(v / depth * 160 - (rows.mean() + 0.5)) < 4
    env.close()
