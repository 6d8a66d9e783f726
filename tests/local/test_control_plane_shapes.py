"""Every object that the control plane hands out, key by key, against the tables of the protocol held here as data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from loops_sdk._wire import endpoints
from loops_sdk._wire.codec import structure
from loops_sdk._wire.endpoints import Endpoint

from .conftest import Serve
from .plane import Plane, started

# ---------------------------------------------------------------- a small language for tables


@attrs.frozen
class Field:
    """A key of an object: always there, `null` only if it may be."""

    kind: Any
    nullable: bool = False


def may_be_null(kind: Any) -> Field:
    return Field(kind, nullable=True)


class OneOf(frozenset[str]):
    """A text out of these."""


@attrs.frozen
class Time:
    """ISO 8601 with time zone."""


TIME = Time()


def mistakes(value: Any, kind: Any, at: str) -> list[str]:
    """What is wrong with a value, each with its place."""
    if isinstance(kind, Field):
        return [] if kind.nullable and value is None else mistakes(value, kind.kind, at)
    if isinstance(kind, Mapping):
        return _in_object(value, kind, at)
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{at}: {value!r} is no list"]
        return [one for index, entry in enumerate(value) for one in mistakes(entry, kind[0], f"{at}[{index}]")]
    if isinstance(kind, Time):
        return [] if _is_time(value) else [f"{at}: {value!r} is no time with a zone"]
    if isinstance(kind, OneOf):
        return [] if value in kind else [f"{at}: {value!r} is not one of {sorted(kind)}"]
    return [] if type(value) is kind else [f"{at}: {value!r} is no {kind.__name__}"]


def _in_object(value: Any, table: Mapping[str, Any], at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: {value!r} is no object"]
    missing = [f"{at}.{name}: missing" for name in table.keys() - value.keys()]
    unknown = [f"{at}.{name}: unknown" for name in value.keys() - table.keys()]
    wrong = [one for name in table.keys() & value.keys() for one in mistakes(value[name], table[name], f"{at}.{name}")]
    return missing + unknown + wrong


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


# ---------------------------------------------------------------- the tables

_SAMPLER_STATES = """
BUILDING DEPLOYING DEPLOY_FAILED LOADING_MODEL ACTIVE UNHEALTHY BUILD_FAILED BUILD_STOPPED DEACTIVATING INACTIVE FAILED
UPDATING SCALED_TO_ZERO WAKING_UP
"""
SAMPLER_STATES = OneOf(_SAMPLER_STATES.split())
TRAINER_STATES = OneOf(["CREATED", "DEPLOYING", "RUNNING", "SCALED_TO_ZERO", "FAILED", "STOPPED", "PREEMPTED"])

SESSION = {"id": str}
USER = {"email": may_be_null(str)}
INSTANCE_TYPE = {
    "id": str,
    "name": str,
    "memory_limit_mib": int,
    "millicpu_limit": int,
    "gpu_count": int,
    "gpu_type": may_be_null(str),
    "gpu_memory_limit_mib": may_be_null(int),
}
SAMPLER = {
    "id": str,
    "base_url": str,
    "base_model": str,
    "created_at": TIME,
    "model_id": str,  # null for a serverless sampler, which ours is not
    "deployment_id": str,
    "status": {"name": SAMPLER_STATES},
    "user": USER,
    "instance_type": may_be_null(INSTANCE_TYPE),
    "node_count": int,
}
RUN = {
    "id": str,
    "session_id": str,
    "name": str,
    "base_model": str,
    "base_url": str,
    "deployment_id": str,  # null until the run is placed; ours is answered when it is
    "lora_config_version": may_be_null(str),
    "created_at": TIME,
    "status": {"name": OneOf(["ACTIVE", "INACTIVE"])},
    "user": USER,
    "sampler": may_be_null(SAMPLER),
}
DEPLOYMENT = {
    "id": str,
    "base_model": str,
    "base_url": str,
    "active_run_id": may_be_null(str),
    "latest_run_id": may_be_null(str),
    "status": {"name": TRAINER_STATES},
    "user": USER,
    "created_at": TIME,
    "availability_model": OneOf(["dedicated", "spot"]),
    "instance_type": INSTANCE_TYPE,
    "node_count": int,
    "sampler": may_be_null(SAMPLER),
}
DEACTIVATED = {"id": str, "base_model": str, "user": USER}
LORA_CONFIG = {
    "config_version": str,
    "targets": [str],
    "expert_layout": may_be_null(OneOf(["per_expert", "shared_outer", "shared_adapter"])),
}
CHECKPOINT = {
    "id": str,
    "checkpoint_id": str,
    "run_id": str,
    "target": OneOf(["sampler", "trainer"]),
    "checkpoint_type": str,
    "base_model": may_be_null(str),
    "lora_adapter_config": may_be_null(dict),
    "lora_config": may_be_null(LORA_CONFIG),
    "size_bytes": int,
    "created_at": TIME,
    "sync_status": may_be_null(OneOf(["SYNCING", "COMPLETE"])),
}
FILES = {
    "presigned_urls": [
        {"url": str, "relative_file_name": str, "node_rank": int, "size_bytes": int, "last_modified": TIME}
    ],
    "next_page_token": may_be_null(int),
    "total_count": int,
}
SUPPORTED_MODEL = {
    "model_name": str,
    "max_seq_len": int,
    "max_enabled_seq_len": int,
    "max_context_length": int,
    "supports_vision_language": bool,
    "enabled": bool,
    "serverless": may_be_null(bool),
    "enablement_details": may_be_null({"reason": str, "reason_detail": str, "remediation": str}),
}
MODEL_DEPLOYMENT = {
    "id": str,
    "name": str,
    "model_id": str,
    "created_at": TIME,
    "is_production": bool,
    "is_development": bool,
    "status": SAMPLER_STATES,  # a bare text here
    "active_replica_count": int,
    "autoscaling_settings": may_be_null(dict),
    "instance_type_name": may_be_null(str),
    "environment": may_be_null(str),
    "labels": may_be_null(dict),
    "region": may_be_null({"slug": str, "display_name": str}),
    "request_backpressure_settings": {"policy": may_be_null(OneOf(["QUEUE_ON_FULL", "REJECT_ON_FULL"]))},
}
TEAM = {"id": str, "name": str, "default": bool, "created_at": TIME}

REPLIES: dict[Endpoint[Any], Any] = {
    endpoints.CREATE_SESSION: {"session": SESSION},
    endpoints.GET_SESSION: {"session": SESSION},
    endpoints.CREATE_RUN: {"run": RUN},
    endpoints.CREATE_TRAINER: {"run": RUN},
    endpoints.LIST_RUNS: {"runs": [RUN]},
    endpoints.GET_RUN: {"run": RUN},
    endpoints.DEACTIVATE_RUN: DEACTIVATED,
    endpoints.CREATE_SAMPLER: {"sampler": SAMPLER},
    endpoints.LIST_SAMPLERS: {"samplers": [SAMPLER]},
    endpoints.GET_SAMPLER: {"sampler": SAMPLER},
    endpoints.DEACTIVATE_SAMPLER: DEACTIVATED,
    endpoints.LIST_CHECKPOINTS: {"checkpoints": [CHECKPOINT]},
    endpoints.CHECKPOINT_FILES: FILES,
    endpoints.CHECKPOINT_SOURCE: {"source": {"kind": OneOf(["s3"])}},
    endpoints.LIST_DEPLOYMENTS: {"deployments": [DEPLOYMENT]},
    endpoints.GET_DEPLOYMENT: {"deployment": DEPLOYMENT},
    endpoints.DEACTIVATE_DEPLOYMENT: DEACTIVATED,
    endpoints.CAPABILITIES: {"supported_models": [SUPPORTED_MODEL]},
    endpoints.MODEL_DEPLOYMENT: MODEL_DEPLOYMENT,
    endpoints.LIST_TEAMS: {"teams": [TEAM]},
}

# ---------------------------------------------------------------- the replies


@attrs.frozen
class Replies:
    """Sends calls of the table and holds what comes back against it."""

    plane: Plane
    asked: set[str]

    async def ask(self, endpoint: Endpoint[Any], parts: Mapping[str, str] | None = None, **fields: Any) -> Any:
        path = endpoint.url("", **(parts or {}))
        given = {"params": fields} if endpoint.method == "GET" else {"json": fields}
        answer = await self.plane.peer.send(endpoint.method, path, **given)
        assert answer.status == 200, answer
        plain = next(one for one in REPLIES if one.name == endpoint.name)
        assert mistakes(answer.json, REPLIES[plain], endpoint.name) == []
        structure(answer.json, endpoint.reply)  # and our own clients read it
        self.asked.add(endpoint.name)
        return answer.json


@pytest.fixture
async def replies(tmp_path: Path, serve: Serve) -> Replies:
    return Replies(await started(tmp_path, serve), set())


async def test_every_reply_has_the_shape_of_its_table(replies: Replies) -> None:
    session = (await replies.ask(endpoints.CREATE_SESSION))["session"]["id"]
    await replies.ask(endpoints.GET_SESSION, {"session_id": session})
    body = {"session_id": session, "base_model": "double/model"}
    run = (await replies.ask(endpoints.CREATE_RUN, **body))["run"]
    assert run["sampler"] is not None
    alone = (await replies.ask(endpoints.CREATE_TRAINER, **body))["run"]
    assert alone["sampler"] is None
    assert len((await replies.ask(endpoints.LIST_RUNS))["runs"]) == 2
    await replies.ask(endpoints.GET_RUN, {"run_id": run["id"]})
    await of_samplers(replies, body, run)
    await of_checkpoints(replies, run)
    await of_deployments(replies, run)
    await replies.ask(endpoints.CAPABILITIES)
    await replies.ask(endpoints.CAPABILITIES, max_seq_len="10000")
    assert len((await replies.ask(endpoints.LIST_TEAMS))["teams"]) == 1
    await replies.ask(endpoints.DEACTIVATE_RUN, {"run_id": run["id"]})
    await replies.ask(endpoints.GET_RUN, {"run_id": run["id"]})
    assert replies.asked == {endpoint.name for endpoint in REPLIES}


async def of_samplers(replies: Replies, body: dict[str, Any], run: Any) -> None:
    sampler = (await replies.ask(endpoints.CREATE_SAMPLER, **body))["sampler"]
    assert len((await replies.ask(endpoints.LIST_SAMPLERS))["samplers"]) == 2
    await replies.ask(endpoints.GET_SAMPLER, {"sampler_id": sampler["id"]})
    await replies.ask(endpoints.DEACTIVATE_SAMPLER, {"sampler_id": sampler["id"]})
    replies.plane.launcher.launched[run["sampler"]["id"]].state = "ready"
    for one in (sampler, run["sampler"]):  # one that has ended, one that is up
        ids = {name: one[name] for name in ("model_id", "deployment_id")}
        await replies.ask(endpoints.MODEL_DEPLOYMENT, ids)


async def of_checkpoints(replies: Replies, run: Any) -> None:
    replies.plane.save(run["id"], "weights", "a")
    replies.plane.save(run["id"], "sampler_weights", "a")
    saved = (await replies.ask(endpoints.LIST_CHECKPOINTS, run_id=run["id"]))["checkpoints"]
    assert {one["target"] for one in saved} == {"trainer", "sampler"}
    page = await replies.ask(endpoints.CHECKPOINT_FILES, {"checkpoint_id": saved[0]["id"]})
    assert page["presigned_urls"]
    await replies.ask(endpoints.CHECKPOINT_SOURCE, {"checkpoint_id": saved[0]["id"]})


async def of_deployments(replies: Replies, run: Any) -> None:
    assert len((await replies.ask(endpoints.LIST_DEPLOYMENTS))["deployments"]) == 2
    place = {"deployment_id": run["deployment_id"]}
    assert (await replies.ask(endpoints.GET_DEPLOYMENT, place))["deployment"]["sampler"] is not None
    await replies.ask(endpoints.DEACTIVATE_DEPLOYMENT, place)
    await replies.ask(endpoints.GET_DEPLOYMENT, place)


async def test_the_calls_of_a_team_answer_in_the_same_shapes(replies: Replies) -> None:
    (team,) = (await replies.ask(endpoints.LIST_TEAMS))["teams"]
    ours = {"team_id": team["id"]}

    async def ask(endpoint: Endpoint[Any], **fields: Any) -> Any:
        return await replies.ask(endpoints.of_team(endpoint), ours, **fields)

    session = (await ask(endpoints.CREATE_SESSION))["session"]["id"]
    body = {"session_id": session, "base_model": "double/model"}
    made = [(await ask(one, **body))["run"]["id"] for one in (endpoints.CREATE_RUN, endpoints.CREATE_TRAINER)]
    assert [run["id"] for run in (await ask(endpoints.LIST_RUNS, scope="org"))["runs"]] == made[::-1]
    await ask(endpoints.CREATE_SAMPLER, **body)
    assert len((await ask(endpoints.LIST_SAMPLERS))["samplers"]) == 2
    assert replies.asked == {"list_teams", *(endpoint.name for endpoint in endpoints.TEAM_SCOPED)}


async def test_the_comparison_bites(replies: Replies) -> None:
    body = {"session_id": replies.plane.session, "base_model": "double/model"}
    run = (await replies.ask(endpoints.CREATE_RUN, **body))["run"]
    assert mistakes(run, RUN, "run") == []
    for name in RUN:
        dropped = {key: value for key, value in run.items() if key != name}
        assert mistakes(dropped, RUN, "run") == [f"run.{name}: missing"]
        assert mistakes({**run, name: 1.5}, RUN, "run")
    assert mistakes({**run, "extra": 1}, RUN, "run") == ["run.extra: unknown"]
    assert mistakes({**run, "created_at": "2026-01-01T00:00:00"}, RUN, "run")
    assert mistakes({**run, "status": {"name": "GONE"}}, RUN, "run")
    assert mistakes({**run, "id": None}, RUN, "run")
    nested = {**run["sampler"], "node_count": True}
    assert mistakes({**run, "sampler": nested}, RUN, "run") == ["run.sampler.node_count: True is no int"]
