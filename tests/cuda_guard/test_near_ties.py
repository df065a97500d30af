"""How near the energies of a plan's samples lie, which decides how alike devices can plan."""

import torch

from planning.solvers import icem
from tests.cuda_guard.cases import CASES
from tests.cuda_guard.ledger import Ledger
from tests.cuda_guard.real_device import errors, numbers


def planned():
    torch.manual_seed(0)
    return numbers(CASES["plan_icem"](Ledger(device="cpu", low=False)))


def test_rounding_of_a_device_is_enough_to_change_the_plan_of_a_random_model(monkeypatch):
    """float32 on a GPU and on a CPU differ by up to 2.5e-5 in the guard's other cases."""
    update, wanted = icem._ICEMSearch.update, planned()

    def largest_change(noise):
        changes = []
        for seed in range(6):
            generator = torch.Generator().manual_seed(seed)

            def noisy(self, samples_BK4, energies_B, generator=generator):
                factors_B = 1 + noise * torch.randn(energies_B.shape, generator=generator)
                update(self, samples_BK4, energies_B * factors_B)

            monkeypatch.setattr(icem._ICEMSearch, "update", noisy)
            changes.append(max(errors(planned(), wanted).values()))
        return max(changes)

    assert largest_change(3e-7) < 1e-3
    assert largest_change(3e-5) > 0.5
