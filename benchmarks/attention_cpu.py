"""Processor time of attention on a CPU by length, data type and gradients, in every form there is.

    python benchmarks/attention_cpu.py       # 10 s of one core; writes results and docs/cuda.md

`plain` are matrix products, `fused` is torch's `scaled_dot_product_attention`, `blocks` is
`worldmodel.models.kernels.cpu_attention`. `PLAIN_LENGTH` of `worldmodel.models.attention` and
`has_matrix_tiles` of the blocks follow from this table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from page_blocks import fill_blocks, markdown_table
from torch import Tensor

from worldmodel.models.attention import Backend, attend
from worldmodel.models.kernels.cpu_attention import attend_in_blocks

HERE = Path(__file__).resolve().parent
OUT, PAGE = HERE / "results" / "attention_cpu.json", HERE.parent / "docs" / "cuda.md"
LENGTHS = (16, 32, 64, 75, 128, 256, 512)
TOKENS, HEADS, WIDTH = 2048, 3, 32
"""Number of tokens of a batch, heads, and channels of a head."""
LEAST_S, REPEATS = 0.02, 3
"""Processor time [s] of a measurement at least, and number of measurements, of which the best
counts."""
FORMS: dict[str, Backend] = {"plain": "plain", "fused": "sdpa"}


def milliseconds(function: Callable[[], object]) -> float:
    """Return the processor time of a call [ms]."""
    function()
    began = time.process_time()
    function()
    calls = max(1, int(LEAST_S / max(1e-5, time.process_time() - began)))
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(calls):
            function()
        found.append((time.process_time() - began) / calls)
    return 1e3 * min(found)


def row_of(length: int, dtype: torch.dtype) -> dict[str, object]:
    """Measure all forms on sequences of a length."""
    torch.manual_seed(0)
    qkv_BL3HC = torch.randn(TOKENS // length, length, 3, HEADS, WIDTH, dtype=dtype)
    row: dict[str, object] = {"length": length, "dtype": str(dtype).removeprefix("torch.")}
    with torch.no_grad():
        q, k, v = qkv_BL3HC.permute(2, 0, 3, 1, 4)
        for name, backend in FORMS.items():
            row[name] = milliseconds(lambda backend=backend: attend(q, k, v, None, backend))
        row["blocks"] = milliseconds(lambda: attend_in_blocks(q, k, v))
    leaf, ones = qkv_BL3HC.requires_grad_(), torch.ones_like(q)

    def learn(backend: Backend) -> Tensor | None:
        leaf.grad = None
        attend(*leaf.permute(2, 0, 3, 1, 4), None, backend).backward(ones)
        return leaf.grad

    for name, backend in FORMS.items():
        row[f"{name}_gradients"] = milliseconds(lambda backend=backend: learn(backend))
    return row


def main() -> None:
    """Measure, and write the results and the page."""
    torch.set_num_threads(1)
    rows = [row_of(length, kind) for kind in (torch.float32, torch.bfloat16) for length in LENGTHS]
    tiles = torch.cpu.get_capabilities().get("amx_tile", False)
    OUT.write_text(json.dumps({"amx": tiles, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    keys = ("plain", "fused", "blocks", "plain_gradients", "fused_gradients")
    head = ["data type", "tokens", *(key.replace("_gradients", ", gradients") for key in keys)]
    cells = [[r["dtype"], str(r["length"]), *(f"{r[key]:.1f}" for key in keys)] for r in rows]
    table = markdown_table(head, cells)
    fill_blocks(PAGE, {"attention-cpu": table})
    print(table)


if __name__ == "__main__":
    main()
