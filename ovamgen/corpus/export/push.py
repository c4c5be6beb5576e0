"""An export goes to the Hugging Face Hub, by the Hub's own uploader.

Its calls are repeated by ``huggingface_hub`` where they fail for a moment; what it does not repeat,
the making of the repository and the commit, is repeated here: an upload goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
)

from ovamgen import __version__
from ovamgen.corpus.export.engine import ExportResult
from ovamgen.corpus.export.hf import HfExport
from ovamgen.errors import ConfigError, ShardError
from ovamgen.storage.store import LocalStore, open_store

_ATTEMPTS = 3
_MAY_PASS = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedExport:
    """What was written, and where it is on the Hub."""

    export: ExportResult | HfExport
    url: str

    def lines(self) -> list[str]:
        """As text for people."""
        return [*self.export.lines(), f"sent to        {self.url}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {**self.export.to_json(), "pushed": self.url}


def check_push(repo: str, out: str) -> None:
    """Checks what a push needs, before hours of exporting.

    Raises:
        ConfigError: no name of a repository, no local folder, no token, or the Hub must not be
            reached.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError

    # documented, and in no __all__
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ConfigError(
            f"--push expects a repository such as NAME/DATASET, got '{repo}'"
        ) from None
    if not isinstance(open_store(out), LocalStore):
        raise ConfigError(f"--push sends a local folder: give one as --out, got {out}")
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("--push needs the Hub, and HF_HUB_OFFLINE says not to reach it: unset it")
    if not get_token():
        raise ConfigError(
            f"--push needs a token that may write to {repo}: set HF_TOKEN, or 'hf auth login'"
        )


def push_to_hub(
    folder: str,
    repo: str,
    *,
    private: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> str:
    """The URL of the dataset repository that now holds the folder.

    Files that are there already are not sent again; what the repository holds besides stays.

    Args:
        folder: of a whole export.
        repo: ``NAME/DATASET``; made where there is none.
        private: a repository that is made is.
        say: gets a line for every attempt that failed.

    Raises:
        ConfigError: the Hub refuses the token or the repository.
        ShardError: the Hub cannot be reached, or failed again and again.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    api = HfApi(library_name="ovamgen", library_version=__version__)

    def upload() -> str:
        place = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Upload by ovamgen",
            # the lock and what else is the store's own
            ignore_patterns=[".*"],
        )
        return str(place)

    # what its library raises for an answer, and for none: httpx's, whichever it brings along
    web_error = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")

    def web_error_of(error: BaseException | None) -> BaseException | None:
        # of a large file it comes wrapped
        return next(
            (e for e in (error, error and error.__cause__) if isinstance(e, web_error)), None
        )

    def may_pass(error: BaseException) -> bool:
        found = web_error_of(error)
        return found is not None and _status(found) in (None, *_MAY_PASS)

    def told(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = _reason(web_error_of(error))
        say(f"the Hub did not take it ({reason}); attempt {state.attempt_number + 1}")

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        return Retrying(
            retry=retry_if_exception(may_pass),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(max=30),
            before_sleep=told,
            reraise=True,
        )(upload)
    except Exception as error:
        found = web_error_of(error)
        if found is None:
            raise
        if _status(found) in (400, 401, 402, 403, 404, 422):
            raise ConfigError(
                f"the Hub refuses {repo} ({_reason(found)}): check its name, and that HF_TOKEN may "
                "write to it"
            ) from None
        raise ShardError(
            f"{folder} is whole but could not be sent to {repo} ({_reason(found)}): run the same "
            "command again"
        ) from None


def _status(error: BaseException) -> int | None:
    response: Any = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _reason(error: BaseException | None) -> str:
    status = _status(error) if error else None
    if status is not None:
        return f"status {status}"
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
