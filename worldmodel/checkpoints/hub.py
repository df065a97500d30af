"""Download files from Hugging Face with the hub's own client, cache and checksums."""

from __future__ import annotations

from pathlib import Path

from worldmodel.errors import DownloadError


def page_of(repo: str, file: str) -> str:
    """Return the URL of a file, for a manual download."""
    return f"https://huggingface.co/{repo}/resolve/main/{file}"


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
        DownloadError: The hub is unreachable, lacks the file, or denies access. The message states
            the fix, including the manual download.
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
    try:
        return Path(hf_hub_download(repo, file))
    except GatedRepoError as error:
        raise DownloadError(
            f"{repo} is open only to users who accepted its licence: accept it at "
            f"https://huggingface.co/{repo}, then log in with `hf auth login` or set HF_TOKEN. "
            f"{by_hand}"
        ) from error
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if _is_offline() else _first_line(error.__cause__ or error)
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


def _is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
