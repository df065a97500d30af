"""Settings of all tests."""

import os
import signal
import sys
from importlib.util import find_spec

import pytest

if find_spec("absl") is not None:
    # absl, which TensorFlow Datasets imports, keeps the standard error of its import. Logging that
    # Hydra configures anew closes that stream: pytest's captured output, for all later tests.
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

NEED = {
    "websockets": ["planning/cli/test_remote_drive.py", "planning/remote"],
    "tensorflow_datasets": ["worldmodel/data/test_odd_rlds.py"],
}
"""Tests that need an optional package as a whole."""
MISSING = [name for name in NEED if find_spec(name) is None]
collect_ignore = [path for name in MISSING for path in NEED[name]]


def pytest_report_header():
    """Say which tests are left out."""
    return [f"{name} is not installed: {', '.join(NEED[name])} not collected" for name in MISSING]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory):
    """Keep what tests decode and download out of the user's own cache folder."""
    before = os.environ.get("WORLDMODEL_CACHE")
    os.environ["WORLDMODEL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["WORLDMODEL_CACHE"]
    else:
        os.environ["WORLDMODEL_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def _signals_that_arrive():
    """Receive signals that the caller of the tests ignores, as `nohup` and background jobs do."""
    default = {signal.SIGINT: signal.default_int_handler}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default.get(number, signal.SIG_DFL))


@pytest.fixture
def make_model(tmp_path):
    """Return a function that writes a world model with other specs than the embedded one's.

    With an image size of its own, or several cameras, the weights are random, else they are the
    embedded model's.
    """
    import dataclasses

    from worldmodel.checkpoints.io import save
    from worldmodel.checkpoints.loading import load_world_model
    from worldmodel.models.world_model import WorldModel

    def make(*, image_size=None, action=None, **observation):
        embedded = load_world_model("default", "cpu")
        config = embedded.config
        encoder = config.encoder
        if image_size is not None:
            observation["image_size"] = (image_size, image_size)
            encoder = dataclasses.replace(
                encoder, image_size=(image_size, image_size), patch_size=image_size
            )
        views = len(observation.get("cameras", config.observation.cameras))
        head = config.object_head
        if views > 1 and head is not None:
            head = dataclasses.replace(head, num_tokens=views * head.num_tokens)
        config = dataclasses.replace(
            config,
            encoder=encoder,
            predictor=dataclasses.replace(config.predictor, num_views=views),
            object_head=head,
            observation=dataclasses.replace(config.observation, **observation),
            action=dataclasses.replace(config.action, **(action or {})),
        )
        model = WorldModel.from_config(config)
        if image_size is None and views == 1:
            model.load_state_dict(embedded.state_dict())
        path = tmp_path / "model.safetensors"
        save(path, model)
        return path

    return make
