"""Sizes and SHA-256 checksums of files on Meta's own server, which announces no checksum.

Meta publishes the checksum of `vitl.pt` as that of `original/model.pth` in its Hugging Face
repository `facebook/vjepa2-vitl-fpc64-256`. The others were measured by at least two projects that
fetched the file from this server, independently of each other and with equal results; none was
computed from a file that this package wrote. A file that is not listed is checked by its announced
size and by the checksums that its archive holds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """Content of a published file."""

    sha256: str
    """SHA-256 checksum, 64 hexadecimal digits."""
    size: int | None = None
    """Size [bytes], if it was reported with the checksum."""


KNOWN_FILES: dict[str, KnownFile] = {
    "vjepa2/vitl.pt": KnownFile(
        "5346856ec9df69487fe72a25bf2632aaa8112df33fb67708e3f7374edc1f7012", 5_127_726_842
    ),
    "vjepa2/vjepa2_1_vitb_dist_vitG_384.pt": KnownFile(
        "848a77c33cc9e6649ed2119c9bea1e2c569bcdab9539ff3e7c02ccc2959ddf4d", 1_664_223_428
    ),
    "vjepa2/vjepa2_1_vitl_dist_vitG_384.pt": KnownFile(
        "7ea9b7cb4a75d10644a8a8d42cff9e177b10dca8f02173f0eaf2b0bed82838c6", 5_151_198_524
    ),
    "vjepa2/vjepa2_1_vitg_384.pt": KnownFile(
        "b417628f1618c8bd52c0f419800b802f65794288c6ef2ff85c1341a1ae587cba", 16_878_318_788
    ),
    "vjepa2/vjepa2_1_vitG_384.pt": KnownFile(
        "7aae1a3c7a31d258af9c985388b5d2f20587469380f2e11b54d7876ac8cfe58a", 30_238_058_912
    ),
    "ijepa/IN1K-vit.h.14-300e.pth.tar": KnownFile(
        "0382013c481743e9ccea89f970bc6c6aa126aa19a62127500d6e672a641aae22"
    ),
}
"""Path of the file on the server -> its content."""
