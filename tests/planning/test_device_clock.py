import time

import torch

from planning.device_clock import clock


def test_only_a_cuda_device_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    before = time.perf_counter()
    times = [clock("cpu"), clock(torch.device("cpu")), clock("cuda:1"), clock(torch.device("cuda"))]
    assert before <= times[0]
    assert times == sorted(times)
    assert waited == ["cuda:1", torch.device("cuda")]
