"""Download files from Hugging Face with the hub's own client, cache and checksums."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from worldmodel.checkpoints.http_identity import HEX_SHA256
from worldmodel.errors import DownloadError, UploadError

MAIN = "main"
"""Branch that the hub serves by default."""


def page_of(repo: str, file: str, revision: str = MAIN) -> str:
    """Return the URL of a file, for a manual download."""
    return f"https://huggingface.co/{repo}/resolve/{revision}/{file}"


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


def cached_path(repo: str, file: str, revision: str = MAIN) -> Path | None:
    """Return the path of a file in the hub's cache, or None if it is not downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch_from_hub(repo: str, file: str, manual: Path, revision: str = MAIN) -> Path:
    """Return a file of a repository from the hub's cache, downloading it on first use.

    Args:
        repo: Repository, such as `facebook/vjepa2-vitl-fpc64-256`.
        file: Name of the file in the repository.
        manual: Path at which the caller looks for a manually downloaded file, named in messages.
        revision: Branch, tag or commit.

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
        RevisionNotFoundError,
    )

    page = page_of(repo, file, revision)
    by_hand = f"Without a network: download {page} elsewhere and put it at {manual}"
    is_new, reachable = cached_path(repo, file, revision) is None, is_reachable()
    try:
        found = Path(hf_hub_download(repo, file, revision=revision, local_files_only=not reachable))
    except GatedRepoError as error:
        raise DownloadError(
            f"{repo} is open only to users who accepted its licence: accept it at "
            f"https://huggingface.co/{repo}, then log in with `hf auth login` or set HF_TOKEN. "
            f"{by_hand}"
        ) from error
    except LocalEntryNotFoundError as error:
        reason = _reason(error, reachable)
        raise DownloadError(
            f"{page} cannot be reached ({reason}), and the cache of Hugging Face "
            f"does not hold it. {by_hand}"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise DownloadError(
            f"{page} moved, or access was denied ({_first_line(error)}). {by_hand}"
        ) from error
    except (HTTPError, OSError) as error:
        raise DownloadError(
            f"{page} did not arrive complete ({_first_line(error)}): run the same "
            f"command again. {by_hand}"
        ) from error
    if is_new:
        _verify(found, page, by_hand)
    return found


def upload_files(
    folder: Path, repo: str, *, files: list[str], private: bool, message: str, revision: str = MAIN
) -> str:
    """Create a repository if it is missing and upload files of a folder to it in one commit.

    The client's saved login (`hf auth login`) or HF_TOKEN gives access. Files that the folder lacks
    are left out.

    Returns:
        The URL of the commit.

    Raises:
        UploadError: The hub is unreachable, the login is missing or has no write access, or an
            upload was cut off.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

    if not is_reachable():
        reason = "HF_HUB_OFFLINE is set" if _is_offline() else "no connection"
        raise UploadError(
            f"{folder} was written but not uploaded to {repo}: the hub cannot be reached "
            f"({reason}). Connect, and run the same command again"
        )
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=files,
            commit_message=message,
            revision=revision,
        )
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise UploadError(
            f"{folder} was written but not uploaded to {repo}: {_first_line(error)}. Log in with "
            "`hf auth login` or set HF_TOKEN, with a token that may write to this repository"
        ) from error
    except (HTTPError, OSError) as error:
        raise UploadError(
            f"{folder} was written but not uploaded to {repo}: the connection ended "
            f"({_first_line(error)}). Run the same command again"
        ) from error
    return str(commit.commit_url)


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
