"""What a recorded step gives its optimiser; the guard records steps on a make-believe device."""

import torch

from worldmodel.training.graphed import laid_out_as


def test_gradients_have_the_layout_of_their_parameters():
    torch.manual_seed(0)
    conv, linear = torch.nn.Conv3d(3, 8, 2), torch.nn.Linear(4, 6)
    trained = [*conv.parameters(), *linear.parameters()]
    clip = torch.randn(2, 3, 4, 4, 4).to(memory_format=torch.channels_last_3d)
    loss = conv(clip).square().mean() + linear(torch.randn(5, 4)).square().mean()
    turned = [p.detach().T.contiguous().T for p in trained if p.ndim == 2]  # as a product leaves it
    for parameter, gradient in zip(
        [*trained, linear.weight], [*torch.autograd.grad(loss, trained), *turned], strict=True
    ):
        found = laid_out_as(parameter, gradient)
        assert found.stride() == parameter.stride()
        assert torch.equal(found, gradient)
    assert laid_out_as(linear.weight, None) is None
