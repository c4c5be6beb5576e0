"""The one policy for calls to a store: what may pass is tried again, until a deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from ovamgen.storage.failures import Failure, failure_of, store_errors

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 300.0
"""How long one operation is tried: a store that is out of order for longer stops the run."""

CONTACT_SECONDS = 20.0
"""The same for a store that has never answered: a wrong endpoint is told within seconds."""

_FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 20.0
"""Between two attempts."""

T = TypeVar("T")


class RemoteError(Exception):
    """A failed operation, as facts; the caller, who knows its purpose, writes the message."""

    def __init__(self, failure: Failure, seconds: float) -> None:
        """``seconds`` is how long it was tried."""
        super().__init__(failure.reason)
        self.failure = failure
        self.seconds = seconds

    @property
    def explanation(self) -> str:
        """Reason and advice, on one line and without credentials."""
        tried = f" (for {self.seconds:.0f} s)" if self.failure.may_pass else ""
        advice = f"; {self.failure.advice}" if self.failure.advice else ""
        return f"{self.failure.reason}{tried}{advice}"


class Patience:
    """How long to go on with one store; what was learnt of it stays."""

    def __init__(
        self, seconds: float = DEADLINE_SECONDS, *, scheme: str = "", reached: bool = False
    ) -> None:
        """``scheme`` is the store's, for advice; ``reached``: it has answered before."""
        self.scheme = scheme
        self.seconds = seconds
        self.reached = reached

    def call(self, work: Callable[[], T]) -> T:
        """What the work returns; done again, with jitter, while its errors may pass.

        Raises:
            RemoteError: an error that does not pass, at once; one that may, at the deadline.
        """
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=self._is_over,
            wait=wait_random_exponential(_FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS),
            before_sleep=_note,
            reraise=True,
        )
        try:
            result = retrying(work)
        except store_errors() as error:
            failure = failure_of(error, self.scheme)
            self.reached = self.reached or failure.kind != "unreachable"
            seconds = float(retrying.statistics.get("delay_since_first_attempt", 0.0))
            # not 'from error': its request would stand in tracebacks and in what pickles them
            raise RemoteError(failure, seconds) from None
        self.reached = True
        return result

    def _is_over(self, state: RetryCallState) -> bool:
        limit = self.seconds
        if not self.reached and _failure(state).kind == "unreachable":
            limit = min(limit, CONTACT_SECONDS)
        return stop_before_delay(limit)(state)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, store_errors()) and failure_of(error).may_pass


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None, "only what failed is tried again"
    return failure_of(error)


def _note(state: RetryCallState) -> None:
    pause = state.next_action.sleep if state.next_action else 0.0
    log.info("%s: trying again in %.1f s", _failure(state).reason, pause)
