"""Arrays whose values lie in other files are refused; no byte of them reaches an episode."""

import h5py
import numpy as np
import pytest

from worldmodel.data.episode import EpisodeError
from worldmodel.data.readers.droid import read_droid
from worldmodel.data.readers.options import ReadOptions
from worldmodel.data.writers.synthetic import draw_episode, random_states

STEPS = 8


def storage(file, secret):
    file.create_dataset("action/delta", (STEPS, 7), "f8", external=[(secret, 0, STEPS * 7 * 8)])


def external_link(file, secret):
    file["action/delta"] = h5py.ExternalLink(secret, "x")


def virtual(file, secret):
    layout = h5py.VirtualLayout((STEPS, 7), "f8")
    layout[:] = h5py.VirtualSource(secret, "x", (STEPS, 7))
    file.create_virtual_dataset("action/delta", layout)


@pytest.mark.parametrize("refer", [storage, external_link, virtual])
def test_values_of_other_files_are_not_read(tmp_path, refer):
    folder = draw_episode(tmp_path / "root", "e0", random_states(STEPS, 0), size=(16, 32))
    secret = tmp_path / "secret"
    if refer is storage:
        secret.write_bytes(np.ones((STEPS, 7)).tobytes())
    else:
        with h5py.File(secret, "w") as other:
            other["x"] = np.ones((STEPS, 7))
    with h5py.File(folder / "trajectory.h5", "a") as file:
        refer(file, str(secret))
    with pytest.raises(EpisodeError, match="path_outside"):
        read_droid(folder)
    trusted = read_droid(folder, ReadOptions(links="all"))
    np.testing.assert_array_equal(trusted.actions_TA, np.ones((STEPS, 7)))
