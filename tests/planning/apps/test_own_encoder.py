"""Which names of encoders are of users' classes."""

import pytest

from planning.apps.own_encoder import split_code

NAMES = {
    "random:tiny": ("random:tiny", ""),
    "hf:name": ("hf:name", ""),
    "hf:user/name": ("hf:user/name", ""),
    "my_parts:Encoder": ("", "my_parts:Encoder"),
    "model.safetensors+my_parts:Encoder": ("model.safetensors", "my_parts:Encoder"),
    "model.safetensors+random:tiny": ("model.safetensors+random:tiny", ""),
    "default": ("default", ""),
}


@pytest.mark.parametrize("name", NAMES)
def test_our_own_prefixes_are_no_modules_of_users(name):
    assert split_code(name) == NAMES[name]
