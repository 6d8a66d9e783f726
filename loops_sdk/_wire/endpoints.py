"""The table of calls: name, method, path, what goes in, what comes out, and whether a lost answer may simply be asked
for again.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from urllib.parse import quote

import attrs

from loops_sdk._wire import bodies
from loops_sdk.types import (
    CheckpointFilesResponse,
    Deactivated,
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    ModelDeployment,
    OptimStepResponse,
    SaveWeightsResponse,
    ServerCapabilities,
)

Reply = TypeVar("Reply")

MIB = 2**20


@attrs.frozen
class Endpoint(Generic[Reply]):
    """One call of the protocol.

    Attributes:
        name: what errors and events call it.
        method, path: the request line; ``{placeholders}`` in the path are filled by `url`.
        reply: type of the reply's body, `NoneType` where it is not read; for an operation of the trainer, of the
            result that polling brings.
        body: type of the request's body, `None` when there is none.
        repeatable: sending it twice has the effect of sending it once, so a lost answer may be asked for again.
        most: bytes that an answer may have; a longer one is not read to its end.
    """

    name: str
    method: str
    path: str
    reply: type[Reply]
    body: type[Any] | None = None
    repeatable: bool = True
    most: int = 64 * MIB

    def url(self, base_url: str, **parts: str) -> str:
        """The full address; every part is percent-encoded, with no character exempt."""
        path = self.path.format(**{name: quote(part, safe="") for name, part in parts.items()})
        return base_url.rstrip("/") + path


# ------------------------------------------------- trainer: operations, repeatable because of their idempotency key

FORWARD_BACKWARD = Endpoint(
    "forward_backward", "POST", "/forward_backward", ForwardBackwardOutput, bodies.ForwardBackwardBody
)
FORWARD = Endpoint("forward", "POST", "/forward", ForwardBackwardOutput, bodies.ForwardBackwardBody)
OPTIM_STEP = Endpoint("optim_step", "POST", "/optim_step", OptimStepResponse, bodies.OptimStepBody)
SAVE_STATE = Endpoint("save_state", "POST", "/save_state", SaveWeightsResponse, bodies.SaveBody)
SAVE_WEIGHTS_FOR_SAMPLER = Endpoint(
    "save_weights_for_sampler", "POST", "/save_weights_for_sampler", SaveWeightsResponse, bodies.SaveBody
)
LOAD_STATE = Endpoint("load_state", "POST", "/load_state", LoadWeightsResponse, bodies.LoadBody)
LOAD_STATE_WITH_OPTIMIZER = Endpoint(
    "load_state_with_optimizer", "POST", "/load_state_with_optimizer", LoadWeightsResponse, bodies.LoadBody
)
INIT_TRAINER_SERVER = Endpoint(
    "init_trainer_server", "POST", "/init_trainer_server", InitTrainerServerResponse, bodies.InitBody
)
OPERATIONS: tuple[Endpoint[Any], ...] = (
    FORWARD_BACKWARD,
    FORWARD,
    OPTIM_STEP,
    SAVE_STATE,
    SAVE_WEIGHTS_FOR_SAMPLER,
    LOAD_STATE,
    LOAD_STATE_WITH_OPTIMIZER,
    INIT_TRAINER_SERVER,
)

# ------------------------------------------------- trainer: reads

RETRIEVE: Endpoint[dict[str, Any]] = Endpoint("retrieve", "GET", "/operations/{operation_id}", dict, most=2048 * MIB)
LIST_OPERATIONS = Endpoint("list_operations", "GET", "/operations", bodies.OperationsReply)  # an extension
HEALTH = Endpoint("health", "GET", "/health", type(None))  # the status says it all; the body is anybody's
POLICY_VERSION = Endpoint("policy_version", "GET", "/policy_version", object)  # {"policy_version": int} or the number
STATUS: Endpoint[dict[str, Any]] = Endpoint("status", "GET", "/status", dict)

# ------------------------------------------------- sampler

MODELS = Endpoint("models", "GET", "/v1/models", bodies.ModelList)
COMPLETIONS: Endpoint[dict[str, Any]] = Endpoint(
    "sample", "POST", "/v1/completions", dict, bodies.CompletionBody, most=512 * MIB
)

# ------------------------------------------------- control plane; creates have no key: sent once, reconciled by listing

# (a session that nobody heard of costs nothing, so opening one may be repeated)

CREATE_SESSION = Endpoint("create_session", "POST", "/v1/loops/sessions", bodies.SessionReply, bodies.CreateSessionBody)
GET_SESSION = Endpoint("get_session", "GET", "/v1/loops/sessions/{session_id}", bodies.SessionReply)
CREATE_RUN = Endpoint("create_run", "POST", "/v1/loops/runs", bodies.RunReply, bodies.CreateRunBody, repeatable=False)
CREATE_TRAINER = Endpoint(
    "create_trainer", "POST", "/v1/loops/trainers", bodies.RunReply, bodies.CreateRunBody, repeatable=False
)
LIST_RUNS = Endpoint("list_runs", "GET", "/v1/loops/runs", bodies.RunsReply)
GET_RUN = Endpoint("get_run", "GET", "/v1/loops/runs/{run_id}", bodies.RunReply)
DEACTIVATE_RUN = Endpoint("deactivate_run", "POST", "/v1/loops/runs/{run_id}/deactivate", Deactivated)
CREATE_SAMPLER = Endpoint(
    "create_sampler", "POST", "/v1/loops/samplers", bodies.SamplerReply, bodies.CreateSamplerBody, repeatable=False
)
LIST_SAMPLERS = Endpoint("list_samplers", "GET", "/v1/loops/samplers", bodies.SamplersReply)
GET_SAMPLER = Endpoint("get_sampler", "GET", "/v1/loops/samplers/{sampler_id}", bodies.SamplerReply)
DEACTIVATE_SAMPLER = Endpoint("deactivate_sampler", "POST", "/v1/loops/samplers/{sampler_id}/deactivate", Deactivated)
LIST_CHECKPOINTS = Endpoint("list_checkpoints", "GET", "/v1/loops/checkpoints", bodies.CheckpointsReply)
CHECKPOINT_FILES = Endpoint(
    "checkpoint_files", "GET", "/v1/loops/checkpoints/{checkpoint_id}/files", CheckpointFilesResponse
)
CHECKPOINT_SOURCE = Endpoint(
    "checkpoint_source", "GET", "/v1/loops/checkpoints/{checkpoint_id}/source", bodies.SourceReply
)
LIST_DEPLOYMENTS = Endpoint("list_deployments", "GET", "/v1/loops/deployments", bodies.DeploymentsReply)
GET_DEPLOYMENT = Endpoint("get_deployment", "GET", "/v1/loops/deployments/{deployment_id}", bodies.DeploymentReply)
DEACTIVATE_DEPLOYMENT = Endpoint(
    "deactivate_deployment", "POST", "/v1/loops/deployments/{deployment_id}/deactivate", Deactivated
)
CAPABILITIES = Endpoint("capabilities", "GET", "/v1/loops/capabilities", ServerCapabilities)
MODEL_DEPLOYMENT = Endpoint(
    "model_deployment", "GET", "/v1/models/{model_id}/deployments/{deployment_id}", ModelDeployment
)
LIST_TEAMS = Endpoint("list_teams", "GET", "/v1/teams", bodies.TeamsReply)

# ------------------------------------------------- the sampler's host

#: Below the origin of the sampler's address, not below the address itself.
WAKE = Endpoint("wake", "POST", "/deployment/{deployment_id}/wake", type(None))

#: Calls that exist once more below ``/v1/teams/{team_id}``, where what they make belongs to the team.
TEAM_SCOPED: tuple[Endpoint[Any], ...] = (
    CREATE_SESSION,
    CREATE_RUN,
    CREATE_TRAINER,
    LIST_RUNS,
    CREATE_SAMPLER,
    LIST_SAMPLERS,
)


def of_team(endpoint: Endpoint[Reply]) -> Endpoint[Reply]:
    """The same call on behalf of a team: its path has one more placeholder, ``{team_id}``."""
    assert endpoint in TEAM_SCOPED
    return attrs.evolve(endpoint, path=endpoint.path.replace("/v1/", "/v1/teams/{team_id}/", 1))
