"""Download files from Hugging Face with the hub's own client, cache and checksums."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from worldmodel.checkpoints.http_identity import HEX_SHA256
from worldmodel.errors import DownloadError


def page_of(repo: str, file: str) -> str:
    """Return the URL of a file, for a manual download."""
    return f"https://huggingface.co/{repo}/resolve/main/{file}"


CONNECT_S = 5.0
"""Time to wait for a connection to the hub [s]."""


def is_reachable() -> bool:
    """Return whether the hub accepts a connection, or is behind a proxy that may.

    The hub's client repeats a failed request for half a minute; without a network, callers read its
    cache at once.
    """
    from huggingface_hub.constants import ENDPOINT

    if _is_offline():
        return False
    address = urlsplit(ENDPOINT)
    if getproxies().get(address.scheme):
        return True
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


def cached_path(repo: str, file: str) -> Path | None:
    """Return the path of a file in the hub's cache, or None if it is not downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def fetch_from_hub(repo: str, file: str, manual: Path) -> Path:
    """Return a file of a repository from the hub's cache, downloading it on first use.

    Args:
        repo: Repository, such as `facebook/vjepa2-vitl-fpc64-256`.
        file: Name of the file in the repository.
        manual: Path at which the caller looks for a manually downloaded file, named in messages.

    Raises:
        DownloadError: The hub is unreachable, lacks the file, denies access or sends other content.
            The message states the fix, including the manual download.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    by_hand = f"Without a network: download {page_of(repo, file)} elsewhere and put it at {manual}"
    is_new, reachable = cached_path(repo, file) is None, is_reachable()
    try:
        found = Path(hf_hub_download(repo, file, local_files_only=not reachable))
    except GatedRepoError as error:
        raise DownloadError(
            f"{repo} is open only to users who accepted its licence: accept it at "
            f"https://huggingface.co/{repo}, then log in with `hf auth login` or set HF_TOKEN. "
            f"{by_hand}"
        ) from error
    except LocalEntryNotFoundError as error:
        reason = _reason(error, reachable)
        raise DownloadError(
            f"{page_of(repo, file)} cannot be reached ({reason}), and the cache of Hugging Face "
            f"does not hold it. {by_hand}"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise DownloadError(
            f"{page_of(repo, file)} moved, or access was denied ({_first_line(error)}). {by_hand}"
        ) from error
    except (HTTPError, OSError) as error:
        raise DownloadError(
            f"{page_of(repo, file)} did not arrive complete ({_first_line(error)}): run the same "
            f"command again. {by_hand}"
        ) from error
    if is_new:
        _verify(found, page_of(repo, file), by_hand)
    return found


def _verify(path: Path, url: str, by_hand: str) -> None:
    """Check the content of a file that the client just stored; it checks only the size itself.

    The client names the content of large files by their SHA-256 checksum.

    Raises:
        DownloadError: The checksum differs; the content was removed.
    """
    content = path.resolve()
    if not HEX_SHA256.fullmatch(content.name):
        return
    with content.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 == content.name:
        return
    content.unlink()
    path.unlink(missing_ok=True)
    raise DownloadError(
        f"{url} has checksum {sha256}, expected {content.name}: the download was deleted. Try "
        f"again. {by_hand}"
    )


def _reason(error: Exception, reachable: bool) -> str:
    if _is_offline():
        return "HF_HUB_OFFLINE is set"
    return _first_line(error.__cause__ or error) if reachable else "no connection"


def _is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
