"""What a recorded step gives its optimiser; the guard records steps on a make-believe device."""

import numpy as np
import pytest
import torch

from planning.cli.app import compose_options
from worldmodel.training.graphed import losses_and_gradients
from worldmodel.training.tasks.shapes import ShapesPretrainTask


@pytest.mark.parametrize("objective", ["latent", "pixels", "labels"])
def test_recorded_gradients_are_those_of_backward_laid_out_as_their_parameters(tmp_path, objective):
    words = ["recipe=shapes", "device=cpu", "bf16=false", "num_clips=64", "val_clips=64"]
    more = [f"objective={objective}", "probe_clips=64", f"out={tmp_path}"]
    task = ShapesPretrainTask.open(compose_options("pretrain", [*words, *more]))
    model = task.build(torch.device("cpu"))
    batch = task.load(0, np.arange(4), slice(0, 4))
    trained = [p for p in model.parameters() if p.requires_grad]
    plain = torch.autograd.grad(model(batch)["loss"], trained, allow_unused=True)
    pairs = zip(trained, plain, strict=True)
    assert any(g is not None and g.stride() != p.stride() for p, g in pairs)  # the patches' weights
    losses, gradients = losses_and_gradients(model, trained, batch)
    found = model(batch)
    found["loss"].backward()
    found = {name: value.detach() for name, value in found.items()}
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: float(value) for name, value in found.items()}
    )
    for parameter, gradient in zip(trained, gradients, strict=True):
        assert (gradient is None) == (parameter.grad is None)
        if gradient is not None:
            assert gradient.stride() == parameter.stride()
            torch.testing.assert_close(gradient, parameter.grad)
