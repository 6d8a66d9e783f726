"""The error tree: bases, text, context, and that every error survives a process boundary."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import loops_sdk
from loops_sdk import errors
from loops_sdk.errors import LoopsError, RemoteOpError


def below(kind: type[LoopsError]) -> set[type[LoopsError]]:
    return {kind, *(one for child in kind.__subclasses__() for one in below(child))}


# Importing all that the front doors import is enough for every subclass to be known. Those of tests are not meant, nor
# what servers tell one another within their process, nor what the Tinker namespace has beside them.
CLASSES = sorted(
    (
        kind
        for kind in below(LoopsError)
        if kind.__module__.startswith("loops_sdk")
        and not kind.__module__.startswith(("loops_sdk.local", "loops_sdk_sync.tinker"))
    ),
    key=lambda kind: kind.__name__,
)
FIELDS = {
    "operation": "forward_backward",
    "operation_id": "op-1",
    "idempotency_key": "abc",
    "url": "http://trainer/x",
    "status": 503,
    "code": "busy",
    "request_id": "req-1",
    "session_id": "s",
    "run_id": "r",
    "attempts": 3,
    "elapsed": 1.25,
    "retry_after": 2.0,
}


def test_the_fields_here_are_all_there_are() -> None:
    assert tuple(FIELDS) == LoopsError.FIELDS


def test_all_errors_are_in_one_module() -> None:
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert defined - {errors.UnretrievedErrorWarning, errors.UnshiftedTargetsWarning} == set(CLASSES)


def test_every_class_is_at_the_front_door() -> None:
    assert {kind.__name__ for kind in CLASSES} <= set(loops_sdk.__all__)
    assert set(errors.__all__) <= set(loops_sdk.__all__)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_every_error_pickles_with_all_it_knows(kind: type[LoopsError], again: object) -> None:
    own = {"error_class": "OutOfMemoryError"} if issubclass(kind, RemoteOpError) else {}
    error = kind("it broke", **own, **FIELDS)
    made = again(error)
    assert type(made) is kind
    assert made.context() == FIELDS
    assert vars(made) == vars(error)
    assert (made.message, str(made), made.args) == (error.message, str(error), ("it broke",))


def test_a_remote_error_keeps_its_class_name() -> None:
    error = pickle.loads(pickle.dumps(RemoteOpError("no gradient", "RuntimeError", operation_id="op-1")))
    assert error.error_class == "RuntimeError"
    assert str(error) == "RuntimeError: no gradient [operation_id=op-1]"
    assert str(RemoteOpError("no gradient")) == "no gradient"


def test_an_error_of_a_users_own_subclass_pickles() -> None:
    assert type(pickle.loads(pickle.dumps(Own("x", url="u")))) is Own


class Own(errors.BadRequestError):
    pass


def test_the_text_shows_the_context_in_one_line() -> None:
    assert str(LoopsError("it broke", **FIELDS)) == (
        "it broke [operation=forward_backward, operation_id=op-1, idempotency_key=abc, url=http://trainer/x, "
        "status=503, code=busy, request_id=req-1, session_id=s, run_id=r, attempts=3, elapsed=1.2s, retry_after=2.0s]"
    )
    assert str(LoopsError("it broke")) == "it broke"


def test_context_is_filled_in_but_never_overwritten() -> None:
    error = LoopsError("x", url="inner", attempts=0)
    error.add_context(url="outer", attempts=5, operation="sample")
    assert error.context() == {"operation": "sample", "url": "inner", "attempts": 0}


BASES: dict[type[LoopsError], tuple[type[BaseException], ...]] = {
    errors.InvalidInputError: (ValueError,),
    errors.ClientClosedError: (RuntimeError,),
    errors.ConnectionFailedError: (ConnectionError, OSError),
    errors.RequestTimeoutError: (TimeoutError,),
    errors.OperationTimeoutError: (errors.RequestTimeoutError, TimeoutError),
    errors.WeightsNotReadyError: (RuntimeError,),
    errors.DeploymentFailedError: (RuntimeError,),
    errors.BadRequestError: (errors.StatusError, ValueError),
    errors.AuthenticationError: (errors.StatusError,),
    errors.PermissionDeniedError: (errors.StatusError,),
    errors.UnknownRequestError: (errors.NotFoundError, errors.StatusError),
    errors.OverloadedError: (errors.StatusError,),
    errors.ServerShutdownError: (errors.ServerFailureError, errors.StatusError),
    errors.RemoteOpError: (RuntimeError,),
}


@pytest.mark.parametrize("kind", BASES)
def test_the_documented_bases(kind: type[LoopsError]) -> None:
    assert issubclass(kind, (LoopsError,))
    for base in BASES[kind]:
        assert issubclass(kind, base)


def test_the_warning_is_a_warning_and_no_error_of_ours() -> None:
    assert issubclass(errors.UnretrievedErrorWarning, RuntimeWarning)
    assert not issubclass(errors.UnretrievedErrorWarning, LoopsError)


def test_what_a_server_says_at_length_is_cut() -> None:
    error = LoopsError("m" * 10**6, url="u" * 10**6, session_id="s" * 10**6)
    assert error.message.endswith("mmm... (1000000 characters)")
    assert str(error) == str(pickle.loads(pickle.dumps(error)))
    assert len(str(error)) < 11_000
    assert len(repr(error)) < 11_000
    assert error.session_id == "s" * 10**6
