"""Files from the Hub: refused before they are fetched if they are too large, verified, and each fault told in one sentence.

Nothing here needs torch: the page reads the cards of models with it.
"""

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import get_session, hf_hub_download, is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx, parse_ratelimit_headers

CARD_BYTES = 1_000_000
"""The longest card that is fetched; those that are written here have some thousand bytes."""

STALL = 300.0  # seconds without a byte; where the client sets no limit of its own it would wait for ever
MAX_WAIT = 120  # seconds before the client tries again, also when the Hub asks for more

_REMEDIES = {
    401: "log in with `hf auth login`",
    403: "ask for access on its page, then log in with `hf auth login`",
    404: "check its name, or try again later",
    429: "it is asked too often, so try again in some minutes",
}


class DownloadError(ValueError):
    """A file that cannot be had from the Hub or must not be: one sentence with the thing, the cause and the remedy."""


class MissingFileError(DownloadError):
    """The repository is there and the file is not.

    Attributes:
        commit: Of the repository; None if the Hub did not say.
    """

    def __init__(self, message: str, commit: str | None) -> None:
        super().__init__(message)
        self.commit = commit


def fetch(repo_id: str, file: str, subject: str, *, most: int | None = None, **options: Any) -> tuple[Path, str]:
    """Fetch one file of a repository, unless it is too large, and verify it.

    Args:
        repo_id: "user/name".
        file: Its name.
        subject: What the errors call the thing that it belongs to.
        most: The bytes that it may have; of a larger one nothing is fetched. None for any number.
        options: Of `hf_hub_download`.

    Returns:
        Where it is, and the commit that it is of.

    Raises:
        MissingFileError: If the repository has no such file.
        DownloadError: Each other way to fail.
    """
    options["token"] = _usable(options.get("token"), subject)
    bound_the_client()
    try:
        if most is not None:
            _require_small(hf_hub_download(repo_id, file, **options, dry_run=True).file_size, file, subject, most)
        path = Path(hf_hub_download(repo_id, file, **options))
        if not is_as_announced(path) and not options.get("local_files_only"):
            path = Path(hf_hub_download(repo_id, file, **{**options, "force_download": True}))
        if is_as_announced(path):
            return path, path.parents[len(PurePosixPath(options.get("subfolder") or "", file).parts) - 1].name
        raise DownloadError(
            f"{subject}: {file} differs from what the Hub announces, also when downloaded anew; try again later, or "
            f"delete '{path.resolve()}'"
        )
    except DownloadError:
        raise
    except RemoteEntryNotFoundError as error:
        commit = error.response.headers.get("X-Repo-Commit")
        raise MissingFileError(f"{subject} has no {file}; take another, or add it", commit) from None
    except HFValidationError:
        raise DownloadError(f"{subject} is neither an existing folder nor a Hub id such as user/name") from None
    except (OSError, httpx.HTTPError, ValueError) as error:
        told = explained(error, subject, revision=options.get("revision"))
        if told is None:
            reason = getattr(error, "strerror", None) or type(error).__name__
            told = f"{subject} could not be fetched ({reason}); try again later, with room in the cache"
        # Not chained: the client's own errors may quote headers, and so the token.
        raise DownloadError(told) from None


def explained(error: BaseException, subject: str, *, revision: str | None = None) -> str | None:
    """One sentence for what went wrong between here and the Hub; None if it was something else.

    Args:
        error: What was raised, by the client or by another library that uses it.
        subject: What was wanted.
        revision: Branch, tag or commit of it.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)

    def found(*kinds: type[BaseException]) -> BaseException | None:
        return next((link for link in chain if isinstance(link, kinds)), None)

    if found(UnicodeEncodeError):
        return f"{subject} was asked for with a token (HF_TOKEN) that holds characters that no token has; log in again"
    if found(OfflineModeIsEnabled) or (found(ConnectionError) and is_offline_mode()):
        return f"{subject} is not in the cache, and HF_HUB_OFFLINE is set; unset it, or give a local folder"
    if found(GatedRepoError):
        return f"{subject} is gated; ask for access on its page, then `hf auth login`"
    if found(RepositoryNotFoundError):
        return (
            f"{subject} is neither a local folder nor a repository on the Hub that you may read; "
            "check the spelling, or `hf auth login` if it is private"
        )
    if found(RevisionNotFoundError):
        return f"{subject} has no revision {revision!r}; give a branch, tag or commit"
    if refusal := found(HfHubHTTPError):
        status = refusal.response.status_code
        return f"{subject} could not be fetched (the Hub answered {status}); {_REMEDIES.get(status, 'try again later')}"
    if found(LocalEntryNotFoundError):
        return f"{subject} is not in the cache and the Hub cannot be reached; check the connection, or give a local folder"
    if fault := found(httpx.TransportError):
        return f"{subject} could not be fetched ({type(fault).__name__}); try again later"
    return None


def bound_the_client() -> None:
    """See to it that this process's client waits neither for ever nor for as long as a Hub may ask.

    Call it before each piece of work: the client's sessions come and go.
    """
    hooks = get_session().event_hooks
    if _set_limits not in hooks["request"]:
        get_session().event_hooks = {
            "request": [*hooks["request"], _set_limits],
            "response": [*hooks["response"], _shorten_wait],
        }


def _set_limits(request: httpx.Request) -> None:
    limits = request.extensions.get("timeout", {})
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: STALL if limits.get(kind) is None else limits[kind] for kind in kinds}


def _shorten_wait(response: httpx.Response) -> None:
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0 and limit.reset_in_seconds > MAX_WAIT:
        del response.headers["RateLimit"]  # the client goes by it first
        response.headers["Retry-After"] = str(MAX_WAIT)
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdigit() and int(asked) > MAX_WAIT:
        response.headers["Retry-After"] = str(MAX_WAIT)


def _require_small(size: int | None, file: str, subject: str, most: int) -> None:
    if size is None:
        raise DownloadError(f"{subject}: the Hub does not say how long {file} is; it is not fetched, take another")
    if size > most:
        raise DownloadError(
            f"{subject}: {file} has {size:,} bytes, more than the {most:,} that it may have; it is not fetched, take another"
        )


def _usable(token: str | bool | None, subject: str) -> str | bool | None:
    """A token as a header can carry it: the error about one that cannot would quote it."""
    if not isinstance(token, str):
        return token
    if not re.fullmatch(r"[!-~]+", token.strip()):
        raise DownloadError(
            f"{subject} was asked for with a token that is empty or holds characters that no token has; leave it out, or "
            "give one that `hf auth login` takes"
        )
    return token.strip()


def is_as_announced(path: Path) -> bool:
    """Whether a file in the Hub's cache has the content that its name there promises.

    The cache calls the file itself, which `path` links to, by the Hub's digest: SHA-256 of what lies in LFS, git's name
    for the rest. The client compares sizes only.
    """
    content = path.resolve()
    if content.parent.name != "blobs":  # where the disk knows no links, the cache tells no digest
        return True
    if re.fullmatch("[0-9a-f]{64}", content.name):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", content.name):
        digest = hashlib.sha1(b"blob %d\0" % content.stat().st_size)
    else:
        return True
    with content.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() == content.name
