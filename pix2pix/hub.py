"""The way of a run folder to the Hub: staged, retried, in the background; the token is never told.

A model repository holds what a run folder holds of a finished model: the two directions, the card and its pictures.
Training state, logs, the last epoch's weights and `arguments.json` (it names folders of your machine) stay behind; the
card says what matters of them.
"""

import contextlib
import logging
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars, get_token, httpx, validate_repo_id

from pix2pix.cards import CARD_NAME, MODEL_FILES, HubError, card_text, directions_in, write_card
from pix2pix.downloads import bound_the_client
from pix2pix.files import whole_folder, write_text
from pix2pix.generator import UNetGenerator

logger = logging.getLogger(__name__)

PICTURES = ("grid.png", "curves.png")

TRIES = 5
FIRST_WAIT = 1.0  # seconds; doubled after each try
MAX_WAIT = 120.0  # seconds, also when the Hub asks for more
FINISH_TIMEOUT = 900.0  # seconds that the end of a training waits for its last push

_PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)  # 409, 412: somebody else's commit came in between
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"

_T = TypeVar("_T")


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload model",
    scores: Iterable[str | Path] = (),
) -> CommitInfo:
    """Upload a model: both directions, the card and its pictures. The repository and the branch are made when missing.

    What is uploaded is copied first, so the folder may change meanwhile. Passing faults are retried, with growing waits
    or the ones that the Hub asks for.

    Args:
        folder: A run folder or a folder of the same shape.
        repo_id: "user/name".
        private: Whether only you may see it. A repository that exists and is public is refused then.
        token: Hub token; by default `HF_TOKEN`, or the one stored by `hf auth login`.
        revision: Branch to commit to; by default "main".
        message: The commit's title.
        scores: Files written by `python -m pix2pix.evaluate`, for the card.

    Returns:
        The commit: `.oid` is its sha, `.repo_url` the page of the repository.

    Raises:
        HubError: If the folder holds no model, or the Hub refuses it or cannot be reached.
    """
    with _staged(Path(folder), repo_id, list(scores)) as staged:
        api = _api(token)
        _make_repository(api, repo_id, private=private, revision=revision)
        return _upload(api, Path(staged), repo_id, revision, message)


def hand_over(model: str | Path, folder: str | Path, *, half: bool = False, scores: Iterable[str | Path] = ()) -> None:
    """Write a model folder that holds the directions of a run and its card, and nothing else: no picture, no record.

    Args:
        model: The run folder.
        folder: Where to; written whole or not at all, replacing what was there.
        half: Whether the weights are stored in half precision. They are used in single precision all the same.
        scores: As for `model_card`.

    Raises:
        HubError: As `model_card`.
        ModelError: If the weights cannot be loaded.
    """
    model = Path(model)
    with whole_folder(folder) as temporary:
        for direction in directions_in(model):
            generator = UNetGenerator.from_pretrained(model, subfolder=direction)
            generator.save_pretrained(temporary / direction, dtype=torch.float16 if half else None)
        records = [model / name for name in ("arguments.json", "metrics.jsonl") if (model / name).is_file()]
        for record in records:  # the card is made of them, and tells what it tells of them
            shutil.copyfile(record, temporary / record.name)
        write_card(temporary, scores=scores)
        for record in records:
            (temporary / record.name).unlink()


def push_space(
    folder: str | Path,
    repo_id: str,
    *,
    sdk: str,
    mark: str,
    private: bool = False,
    token: str | None = None,
    message: str = "Publish the page",
) -> CommitInfo:
    """Make a Space, or bring one that was published before to exactly the content of a folder.

    Args:
        folder: What the Space's repository is to hold, with its card.
        repo_id: "user/name".
        sdk: "gradio" or "static".
        mark: A line of the cards of Spaces that may be overwritten.
        private: Whether only you may see it. A Space that exists and is public is refused then.
        token: As for `push`.
        message: The commit's title.

    Returns:
        The commit: `.oid` is its sha, `.repo_url` the page of the repository.

    Raises:
        HubError: If the Space holds something else, or the Hub refuses it or cannot be reached.
    """
    api = _api(token)
    _make_repository(api, repo_id, private=private, revision=None, kind="space", sdk=sdk)

    def holds_something_else() -> bool:
        files = set(api.list_repo_files(repo_id, repo_type="space"))
        if CARD_NAME in files:
            card = api.hf_hub_download(repo_id, CARD_NAME, repo_type="space")
            if mark in Path(card).read_text(encoding="utf-8", errors="replace"):
                return False
        return bool(files - {CARD_NAME, ".gitattributes"})

    if _persistently(holds_something_else, api, repo_id):
        raise HubError(f"Space {repo_id} holds something that was not published from here; take a new name, or empty it")

    def upload() -> CommitInfo:
        return api.upload_folder(
            repo_id=repo_id, repo_type="space", folder_path=folder, commit_message=message, delete_patterns="*"
        )

    return _persistently(upload, api, repo_id)


def check_login(repo_id: str) -> None:
    """Make sure, before work that ends in a push, that the Hub is there and knows the token. Nothing is made yet.

    Raises:
        HubError: If it does not, or the name of the repository cannot be one.
    """
    _require_repo_id(repo_id)
    api = _api(None)
    _persistently(api.whoami, api, repo_id)


def push_dataset(folder: str | Path, repo_id: str, *, private: bool = False, message: str = "Upload pairs") -> CommitInfo:
    """Upload a data set in one commit, and remove what an older version left in `data/`; passing faults are retried.

    Args:
        folder: What `pix2pix.prepare` wrote: `data/` and the card.
        repo_id: "user/name".
        private: Whether only you may see it. A repository that exists and is public is refused then.
        message: The commit's title.

    Returns:
        The commit: `.repo_url` is the page of the data set.

    Raises:
        HubError: If the Hub refuses it or cannot be reached.
    """
    api = _api(None)
    _make_repository(api, repo_id, private=private, revision=None, kind="dataset")

    def upload() -> CommitInfo:
        return api.upload_folder(
            repo_id=repo_id, repo_type="dataset", folder_path=folder, commit_message=message, delete_patterns=["data/*"]
        )

    return _persistently(upload, api, repo_id)


class Pusher:
    """Pushes a run folder while it is being trained on, without holding training up and without ever ending it.

        pusher = Pusher(folder, "user/name")
        pusher.check()
        ...
        pusher.start("Epoch 5")
        ...
        warning = pusher.finish("End of training")

    One push is under way at a time; of those asked for meanwhile, the newest follows.

    Args:
        folder: The run folder.
        repo_id: "user/name".
        private: As for `push`.
        token: As for `push`.
    """

    def __init__(self, folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> None:
        self.folder, self.repo_id, self.private = Path(folder), repo_id, private
        self._api = _api(token)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waiting: tuple[tempfile.TemporaryDirectory, str] | None = None
        self._failure: str | None = None

    def check(self) -> str:
        """Make sure, before training, that pushing will be allowed; returns the page of the repository.

        Raises:
            HubError: If the token is missing or refused, or the repository may not be made or written to.
        """
        disable_progress_bars()  # those of an upload would be drawn across training's own
        _make_repository(self._api, self.repo_id, private=self.private, revision=None)
        return f"{self._api.endpoint}/{self.repo_id}"

    def start(self, message: str) -> None:
        """Copy what the folder holds now and push it in the background. Call it from the thread that writes the folder.

        A failure is logged as a warning; nothing is raised.
        """
        failure = self._enqueue(message)
        if failure is not None:
            logger.warning("push to %s failed: %s", self.repo_id, failure)

    def finish(self, message: str, *, timeout: float = FINISH_TIMEOUT) -> str | None:
        """Push what the folder holds now and wait for the end of it.

        Args:
            message: The commit's title.
            timeout: How long to wait, in seconds.

        Returns:
            None if the push succeeded, else a warning that says why not, and how to repeat it by hand.
        """
        failure = self._enqueue(message)
        if failure is None:
            with self._lock:
                thread = self._thread
            if thread is not None:
                thread.join(timeout)
                failure = f"it was not through after {timeout:.0f} seconds" if thread.is_alive() else self._failure
            else:
                failure = self._failure
        if failure is None:
            return None
        command = ["python", "-m", "pix2pix.publish", "--model", str(self.folder), "--repo", self.repo_id]
        command += ["--private"] if self.private else []
        return (
            f"the push to {self.repo_id} failed: {failure}. Nothing is lost, the model is in '{self.folder}'; "
            f"to push it, run: {shlex.join(command)}"
        )

    def _enqueue(self, message: str) -> str | None:
        """Stage the folder and see to it that somebody pushes it; returns why that failed, if it did."""
        try:
            staged = _staged(self.folder, self.repo_id, [])
        except HubError as error:
            return str(error)
        with self._lock:
            if self._waiting is not None:
                self._waiting[0].cleanup()
            self._waiting = (staged, message)
            if self._thread is None:
                # A daemon: a process that is told to end does not wait for the Hub.
                self._thread = threading.Thread(target=self._work, name="push", daemon=True)
                self._thread.start()
        return None

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._waiting is None:
                    self._thread = None
                    return
                (staged, message), self._waiting = self._waiting, None
            try:
                with staged as folder:
                    _upload(self._api, Path(folder), self.repo_id, None, message)
                self._failure = None
            except HubError as error:
                self._failure = str(error)
            except Exception as error:  # whatever it is, training goes on and the user hears of it
                self._failure = _without_token(f"{type(error).__name__}: {error}", self._api)
            if self._failure is not None:
                logger.warning("push to %s failed: %s", self.repo_id, self._failure)


def _api(token: str | None) -> HfApi:
    token = token.strip() if token is not None else None
    # Such a token cannot travel in a header, and the error about that would quote it.
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise HubError(f"the token is empty or holds characters that no token has; {_LOG_IN}")
    return HfApi(token=token)


def _staged(folder: Path, repo_id: str, scores: list[str | Path]) -> tempfile.TemporaryDirectory:
    """Copy what a repository gets of a folder, and write the card beside it."""
    _require_repo_id(repo_id)
    directions = directions_in(folder)
    staged = tempfile.TemporaryDirectory(prefix="pix2pix-push-")
    try:
        target = Path(staged.name)
        for direction in directions:
            (target / direction).mkdir()
            for name in MODEL_FILES:
                shutil.copyfile(folder / direction / name, target / direction / name)
        for name in PICTURES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        write_text(target / CARD_NAME, card_text(folder, repo_id, scores))
    except OSError as error:
        staged.cleanup()
        raise HubError(
            f"model '{folder}' could not be copied ({error.strerror or error}); make room, then try again"
        ) from error
    except HubError:
        staged.cleanup()
        raise
    return staged


def _require_repo_id(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        is_valid = False
    else:
        is_valid = repo_id.count("/") == 1
    if not is_valid:
        raise HubError(f"repository must be USER/NAME of letters, digits, '-', '_' and '.', got {repo_id!r}")


def _make_repository(
    api: HfApi, repo_id: str, *, private: bool, revision: str | None, kind: str = "model", sdk: str | None = None
) -> None:
    """Make a repository of a kind ("model", "dataset", "space") unless it is there, and see that it may be written to."""
    _require_repo_id(repo_id)

    def make() -> bool:
        api.whoami()  # of all requests, this one tells a bad token from a missing repository
        api.create_repo(repo_id, repo_type=kind, space_sdk=sdk, private=private or None, exist_ok=True)
        api.auth_check(repo_id, repo_type=kind, write=True)  # a repository that exists may be somebody else's
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return bool(api.repo_info(repo_id, repo_type=kind).private)

    if private and not _persistently(make, api, repo_id):
        raise HubError(f"repository {repo_id} exists and is public; make it private on its settings page, or take a new name")
    if not private:
        _persistently(make, api, repo_id)


def _upload(api: HfApi, staged: Path, repo_id: str, revision: str | None, message: str) -> CommitInfo:
    def upload() -> CommitInfo:
        return api.upload_folder(repo_id=repo_id, folder_path=staged, revision=revision, commit_message=message)

    return _persistently(upload, api, repo_id)


def _persistently(action: Callable[[], _T], api: HfApi, repo_id: str) -> _T:
    """Do it, again and again if the fault is one that passes, and turn the last fault into a `HubError`."""
    for attempt in range(TRIES):
        try:
            bound_the_client()  # each time: the client makes a new session after some faults
            return action()
        except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
            fault = _root(error)
            wait = _wait_before_retry(fault, attempt)
            if wait is None or attempt == TRIES - 1:
                # Not chained: the client's own errors may quote headers, and so the token.
                raise HubError(_explained(fault, api, repo_id)) from None
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _root(error: BaseException) -> BaseException:
    """The fault inside the RuntimeError that the client wraps around failures of single files."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_connection_fault(error: BaseException) -> bool:
    return isinstance(error, httpx.TransportError | ConnectionError | TimeoutError)


def _wait_before_retry(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait after try number `attempt` (from 0), or None if trying again is no use."""
    if isinstance(error, OfflineModeIsEnabled | LocalTokenNotFoundError):
        return None
    if _status(error) not in _PASSING and not _is_connection_fault(error):
        return None
    wait = FIRST_WAIT * 2**attempt
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "").strip()
        with contextlib.suppress(ValueError):  # seconds, or the date of the next try, or nothing that can be read
            wait = float(asked) if asked.isdigit() else max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return min(wait, MAX_WAIT)


def _explained(error: BaseException, api: HfApi, repo_id: str) -> str:
    """One sentence for the user: what happened, and what to do."""
    status = _status(error)
    said = _without_token((getattr(error, "server_message", None) or "").strip().split("\n")[0][:200], api)
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no Hub token; {_LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it to push"
    if isinstance(error, RevisionNotFoundError):
        return f"repository {repo_id} has no such branch; give a branch, not a tag or commit"
    if status == 401:
        return f"the Hub refused the token (401); {_LOG_IN}"
    if status == 403:
        return f"the token may not write to {repo_id} (403); give a repository of yours, or a token with write access"
    if isinstance(error, RepositoryNotFoundError):
        return f"repository {repo_id} does not exist (404), or is private and not yours; check the name"
    if status == 429:
        return f"the Hub asks for fewer requests (429), also after {TRIES} tries; try again in some minutes"
    if status is not None and status >= 500:
        return f"the Hub is in trouble ({status}), also after {TRIES} tries; try again later"
    if status is not None:
        return f"the Hub refused {repo_id} ({status}: {said or 'no reason given'}); mend that, then try again"
    if _is_connection_fault(error):
        return f"the Hub at {api.endpoint} cannot be reached ({type(error).__name__}); check the connection"
    if isinstance(error, UnicodeError):
        return f"the token holds characters that no token has; {_LOG_IN}"
    return _without_token(f"the upload to {repo_id} failed ({type(error).__name__}: {error})".replace("\n", " "), api)


def _without_token(text: str, api: HfApi) -> str:
    for token in (api.token, get_token()):
        if isinstance(token, str) and token:
            text = text.replace(token, "(token)")
    return re.sub(r"hf_\w{6,}", "(token)", text)
