"""What goes wrong."""

from typing import Any


class KillfeedError(Exception):
    """Every error of this package is one of these.

    temporary: the same may go better later. retry_after: for how many seconds the server wants to be left alone, 0 when it
    did not say.
    """

    def __init__(self, message: str, *, temporary: bool = False, retry_after: float = 0) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.retry_after = retry_after


class ConnectionError(KillfeedError, OSError):  # noqa: A001  it is one
    """There was no answer, or it broke off."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=True)


class ProblemError(KillfeedError):
    """The server refused: a problem document (RFC 9457), or what could be made of another answer.

    problem is the document whole. detail is for people, and empty when it was no killfeed that answered. parameter, value
    and accepted are there when one parameter is at fault.
    """

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float) -> None:
        self.status = status
        self.problem = problem
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.parameter: str | None = problem.get("parameter")
        self.value: str | None = problem.get("value")
        self.accepted: str | None = problem.get("accepted")
        super().__init__(
            f"the server refused: {self.detail or self.title} ({status})",
            temporary=status >= 500 or status in (408, 429),
            retry_after=retry_after,
        )


class ReplacedError(KillfeedError):
    """A newer connection has taken the client id. Coming back would take it from that one again."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"client {client_id!r}: a newer connection has taken the name: give each reader its own")
