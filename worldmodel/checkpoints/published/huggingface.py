"""Read checkpoints in the Hugging Face layout of `facebook/vjepa2-*` and `facebook/ijepa_*`.

The layout is a folder, or the model.safetensors in it, with config.json beside the weights. Names
are translated to the published ones, and query, key and value are fused into one tensor.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.checkpoints.container import read_json
from worldmodel.checkpoints.tensor_file import SafetensorsFile
from worldmodel.errors import CheckpointError

PARTS = {
    "encoder": ("encoder.", "embeddings.", "layers.", "layernorm."),
    "predictor": ("predictor.",),
    "probe": ("pooler.",),
}
"""Part -> beginnings of its tensors' names; all but `encoder.` are those of I-JEPA's encoder."""
MODEL_TYPES = ("vjepa2", "ijepa")
WRAPPERS = re.compile(r"^(vjepa2|ijepa)\.")
"""Prefix of all names of the encoder in a classifier's file."""
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.safetensors")
MAX_SHARDS = 1000
DEPTHS = {
    "encoder": ("num_hidden_layers", "blocks."),
    "predictor": ("pred_num_hidden_layers", "predictor_blocks."),
    "probe": ("num_pooler_layers", "pooler.blocks."),
}
"""Part -> entry of config.json with its number of blocks, and the beginning of their names."""
LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("num_hidden_layers", "pred_num_hidden_layers", "num_pooler_layers"), (0, 1024)
    ),
    **dict.fromkeys(("num_attention_heads", "pred_num_attention_heads"), (1, 4096)),
    **dict.fromkeys(("hidden_size", "image_size", "crop_size", "frames_per_clip"), (1, 2**16)),
    **dict.fromkeys(("patch_size", "tubelet_size"), (1, 4096)),
}
"""Entry of config.json that is used -> its smallest and largest value."""
HEADS = {
    "encoder": "num_attention_heads",
    "predictor": "pred_num_attention_heads",
    "probe": "num_attention_heads",
}
RULES = [
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.", r"blocks.\1."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.attention\.", ".attention."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qkv])_proj\.", r".attn.qkv:\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^encoder\.embeddings\.patch_embeddings\.proj\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^encoder\.layernorm\.", "norm."),
    (r"^predictor\.embeddings\.predictor_embeddings\.", "predictor_embed."),
    (r"^predictor\.embeddings\.mask_tokens$", "mask_tokens"),
    (r"^predictor\.layer\.(\d+)\.", r"predictor_blocks.\1."),
    (r"^predictor\.layernorm\.", "predictor_norm."),
    (r"^predictor\.proj\.", "predictor_proj."),
    (r"^pooler\.cross_attention_layer\.", "pooler.cross_attention_block."),
    (r"^pooler\.self_attention_layers\.(\d+)\.", r"pooler.blocks.\1."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (r"\.cross_attn\.q_proj\.", ".xattn.q."),
    (r"\.cross_attn\.([kv])_proj\.", r".xattn.kv:\1."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.qkv:\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.attention\.(q)uery\.", r".attn.qkv:\1."),
    (r"\.attention\.(k)ey\.", r".attn.qkv:\1."),
    (r"\.attention\.(v)alue\.", r".attn.qkv:\1."),
    (r"\.attention\.proj\.", ".attn.proj."),
    (r"^classifier\.", "linear."),
]
FUSED = re.compile(r"^(.*\.(?:qkv|kv)):([qkv])(\..*)$")


def translate(name: str) -> str:
    """Return the published name of a tensor; `qkv:q` marks a third of a fused tensor."""
    for pattern, ours in RULES:
        name = re.sub(pattern, ours, name)
    return name


def files_of(path: Path) -> list[Path]:
    """Return the safetensors files of a folder, or the file itself with its other shards.

    Raises:
        CheckpointError: The folder holds no safetensors file, or shards are missing.
    """
    if not path.is_dir():
        shard = SHARD.fullmatch(path.name)
        return _shards(path.parent, shard[1], int(shard[3])) if shard else [path]
    files = set(path.glob("model*.safetensors"))
    for file in [*files]:
        if shard := SHARD.fullmatch(file.name):
            files |= set(_shards(path, shard[1], int(shard[3])))
    files |= {path / name for name in _listed(path / INDEX).values()}
    if not files:
        raise CheckpointError(f"{path} has no model*.safetensors: pass a file or another folder")
    return sorted(files)


def _shards(folder: Path, stem: str, count: int) -> list[Path]:
    """Return all shards of a set, in order."""
    files = [folder / f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    missing = [file.name for file in files[:MAX_SHARDS] if not file.is_file()]
    if missing or not 1 <= count <= MAX_SHARDS:
        shown = ", ".join(missing[:8]) or f"a set of {count} files"
        raise CheckpointError(f"{folder}: {shown} is missing: download all shards of {stem}")
    return files


def _listed(index: Path) -> dict[str, str]:
    """Return the file name of each tensor in an index; empty if there is no index."""
    listed = read_json(index).get("weight_map", {}) if index.exists() else {}
    plain = isinstance(listed, dict) and all(
        isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")
        for name in listed.values()
    )
    if not plain:
        raise CheckpointError(
            f"{index}: its weight_map must give the name of a .safetensors file beside it for each "
            "tensor: download it again"
        )
    return dict(listed)


def open_files(path: Path) -> SafetensorsFile:
    """Open all safetensors files of a folder, checked against its index.

    Raises:
        CheckpointError: A file or tensor is missing, damaged, or in another file than listed.
    """
    file = SafetensorsFile(files_of(path))
    index = (path if path.is_dir() else path.parent) / INDEX
    is_set = path.is_dir() or SHARD.fullmatch(path.name)
    listed = _listed(index) if is_set else {}
    have = {name: file.path_of(name).name for name in file.names}
    wrong = sorted(
        name for name in listed.keys() | have.keys() if listed.get(name) != have.get(name)
    )
    if listed and wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{index} and the files beside it differ in {len(wrong)} tensors: {name!r} is listed "
            f"in {listed.get(name, 'no file')} and found in {have.get(name, 'none')}; download all "
            "files again"
        )
    return file


def read_config(path: Path) -> dict[str, Any]:
    """Read the config.json beside the weights; return an empty dictionary if it is missing.

    Raises:
        CheckpointError: The file is not a JSON object, or one of its sizes is not a number in
            range.
    """
    where = (path if path.is_dir() else path.parent) / "config.json"
    config = read_json(where)
    if config.get("model_type", "vjepa2") not in MODEL_TYPES:
        return {}
    for name, (least, most) in LIMITS.items():
        value = config.get(name, most)
        if type(value) is not int or not least <= value <= most:
            raise CheckpointError(
                f"{where}: {name}={value!r}; allowed: an integer from {least} to {most}. Download "
                "it again"
            )
    eps = config.get("layer_norm_eps", 1e-6)
    if type(eps) not in {int, float} or not 0 <= eps <= 1:
        raise CheckpointError(f"{where}: layer_norm_eps={eps!r}; allowed: a number from 0 to 1")
    return config


def _check_depth(tensors: dict[str, Tensor], part: str, config: dict[str, Any], path: Path) -> None:
    """Check the number of blocks against config.json."""
    name, prefix = DEPTHS[part]
    numbers = {k.split(".")[prefix.count(".")] for k in tensors if k.startswith(prefix)}
    expected = config.get(name, len(numbers))
    if len(numbers) != expected:
        raise CheckpointError(
            f"{path}: config.json has {name}={expected}, the weights have {len(numbers)} blocks: "
            "files are missing or inconsistent; download all of them again"
        )


def _of_part(file: SafetensorsFile, part: str) -> dict[str, str]:
    """Map bare names to file names for one part; classifiers prefix them with `vjepa2.`."""
    prefix = PARTS[part]
    bare = {WRAPPERS.sub("", name): name for name in file.names}
    chosen = {k: v for k, v in bare.items() if k.startswith(prefix)}
    if part == "probe":
        chosen |= {k: v for k, v in bare.items() if k.startswith("classifier.")}
    if not chosen:
        have = [p for p, start in PARTS.items() if any(k.startswith(start) for k in bare)]
        raise CheckpointError(f"The file has no {part}; it holds: {', '.join(have) or 'nothing'}")
    return chosen


def _place(sources: dict[str, str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return single tensors (ours -> theirs) and fused ones (ours -> {q, k, v -> theirs})."""
    whole: dict[str, str] = {}
    fused: dict[str, dict[str, str]] = {}
    for bare, name in sources.items():
        ours = translate(bare)
        match = FUSED.match(ours)
        if match:
            fused.setdefault(match[1] + match[3], {})[match[2]] = name
        else:
            whole[ours] = name
    return whole, fused


def read_part(path: Path, part: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read config.json and the tensors of one part under their published names.

    Raises:
        CheckpointError: The file is damaged or lacks the part, or the shapes of query, key and
            value differ.
    """
    if part not in PARTS:
        raise CheckpointError(
            f"The Hugging Face layout has no {part!r}: it holds one encoder; use part 'encoder'"
        )
    file, config = open_files(path), read_config(path)
    whole, fused = _place(_of_part(file, part))
    tensors: dict[str, Tensor] = {}
    for ours, name in whole.items():
        tensors[ours] = torch.empty(file.shape(name))
        file.read_into(name, tensors[ours])
    for ours, thirds in fused.items():
        tensors[ours] = _fuse(file, ours, thirds)
    for key in [k for k in tensors if k == "mask_tokens"]:
        for i, token in enumerate(tensors.pop(key)):
            tensors[f"mask_tokens.{i}"] = token
    _check_depth(tensors, part, config, path)
    return tensors, config


def _fuse(file: SafetensorsFile, ours: str, thirds: dict[str, str]) -> Tensor:
    wanted = "qkv" if ".qkv." in ours else "kv"
    missing = [letter for letter in wanted if letter not in thirds]
    shapes = {file.shape(name) for name in thirds.values()}
    if missing or len(shapes) != 1:
        raise CheckpointError(
            f"{ours}: missing {missing or 'none'} of {wanted}, shapes {sorted(shapes)} from "
            f"{sorted(thirds.values())}: query, key and value must exist and have one shape"
        )
    rows, *rest = shapes.pop()
    out = torch.empty(rows * len(wanted), *rest)
    for i, letter in enumerate(wanted):
        file.read_into(thirds[letter], out[i * rows : (i + 1) * rows])
    return out
