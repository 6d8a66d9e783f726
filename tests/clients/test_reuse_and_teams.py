"""Whose trainers are taken over, and to whom what is made belongs: keywords, environment, routes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from loops_sdk import ServiceClient, errors

TRAINERS, SAMPLERS = "POST /v1/loops/trainers", "POST /v1/loops/samplers"
SESSION, RUN = "reuse_from_session_id", "reuse_from_run_id"
ENVIRONMENT = {SESSION: "LOOPS_REUSE_FROM_SESSION_ID", RUN: "LOOPS_REUSE_FROM_RUN_ID"}


def reused(asked: Any) -> dict[str, str]:
    return {name: value for name, value in asked.body.items() if name.startswith("reuse")}


@pytest.mark.parametrize(
    ("environment", "keywords", "of_run", "of_sampler"),
    [
        ({}, {}, {}, {}),
        ({SESSION: "se"}, {}, {SESSION: "se"}, {SESSION: "se"}),
        ({RUN: "re"}, {}, {RUN: "re"}, {}),
        ({SESSION: "se", RUN: "re"}, {}, {RUN: "re"}, {SESSION: "se"}),
        ({SESSION: "", RUN: ""}, {}, {}, {}),
        ({SESSION: "se"}, {SESSION: "sk"}, {SESSION: "sk"}, {SESSION: "sk"}),
        ({RUN: "re"}, {SESSION: "sk"}, {SESSION: "sk"}, {SESSION: "sk"}),
        ({SESSION: "se", RUN: "re"}, {RUN: "rk"}, {RUN: "rk"}, {}),
    ],
)
async def test_one_of_the_two_is_sent_and_keywords_win(
    service: Any, monkeypatch: pytest.MonkeyPatch, environment: Any, keywords: Any, of_run: Any, of_sampler: Any
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(ENVIRONMENT[name], value)
    async with ServiceClient(base_url=service.control, **keywords) as client:
        training = await client.create_lora_training_client_async("acme/model")
        assert reused(service.last(TRAINERS)) == of_run
        await training._publishing.sampler.deployment()
        assert service.last(SAMPLERS).body == {"session_id": "s1", "run_id": "r1", **of_sampler}
        await client.create_sampling_client_async("acme/model")
        assert service.last(SAMPLERS).body == {"session_id": "s1", "base_model": "acme/model", **of_sampler}
        await client.create_lora_training_client_async("acme/model", with_sampler=True)
        assert reused(service.last("POST /v1/loops/runs")) == of_run


@pytest.mark.parametrize(
    ("keywords", "environment", "message"),
    [
        ({SESSION: "a", RUN: "b"}, {}, r"^reuse_from_run_id: give this or reuse_from_session_id, not both"),
        ({SESSION: "a/b"}, {}, r"^reuse_from_session_id: expected 1 to 255 letters.*got 'a/b'"),
        ({RUN: ""}, {}, r"^reuse_from_run_id: expected 1 to 255 letters"),
        ({}, {RUN: "a b"}, r"^LOOPS_REUSE_FROM_RUN_ID: expected 1 to 255 letters.*got 'a b'"),
        ({}, {SESSION: "../x"}, r"^LOOPS_REUSE_FROM_SESSION_ID: expected 1 to 255 letters"),
        ({"team": ""}, {}, r"^team: expected a non-empty string"),
    ],
)
def test_what_is_no_id_is_refused_at_construction(
    monkeypatch: pytest.MonkeyPatch, keywords: Any, environment: Any, message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(ENVIRONMENT[name], value)
    with pytest.raises(errors.InvalidInputError, match=message):
        ServiceClient(**keywords)


# ---------------------------------------------------------------- teams


@pytest.fixture
def teams(service: Any) -> None:
    service.teams = [{"id": "t0", "name": "Blue"}, {"id": "t1", "name": "blue team"}]


@pytest.mark.parametrize("how", ["keyword", "environment", "keyword over environment"])
async def test_what_is_made_and_listed_belongs_to_the_team(
    service: Any, monkeypatch: pytest.MonkeyPatch, teams: None, how: str
) -> None:
    if "environment" in how:
        monkeypatch.setenv("LOOPS_TEAM", "blue team" if how == "environment" else "Blue")
    async with ServiceClient(base_url=service.control, team="blue team" if "keyword" in how else None) as client:
        assert service.asked[0].body == {"name": "blue team"}
        training = await client.create_lora_training_client_async("acme/model")
        await training._publishing.sampler.deployment()
        await client.create_lora_training_client_async("acme/model", with_sampler=True)
        await client.create_sampling_client_async("acme/model")
        await client.list_checkpoints_async("r1")
    creates = [one.line for one in service.asked if one.line.startswith("POST")]
    routes = ["sessions", "trainers", "samplers", "runs", "samplers"]
    assert creates == [f"POST /v1/teams/t1/loops/{route}" for route in routes]
    assert "GET /v1/teams/t1/loops/samplers" in service.lines()
    assert "GET /v1/loops/checkpoints" in service.lines()
    assert "GET /v1/loops/runs/r1" in service.lines()


async def test_a_lost_answer_is_looked_up_among_the_teams_runs(
    service: Any, teams: None, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(_request: Any) -> Any:
        service.make_run(with_sampler=False)
        return reply(504)

    service.on["POST /v1/teams/t1/loops/trainers"] = lose
    async with ServiceClient(base_url=service.control, team="blue team") as client:
        assert (await client.create_lora_training_client_async("acme/model")).run_id == "r1"
    assert "GET /v1/teams/t1/loops/runs" in service.lines()
    assert "GET /v1/loops/runs" not in service.lines()


async def test_an_unknown_team_is_named_and_no_session_is_opened(service: Any, teams: None, reply: Any) -> None:
    client = ServiceClient(base_url=service.control, team="green")
    for _ in range(2):
        with pytest.raises(errors.NotFoundError, match=r"^team: there is no team 'green' that this key may act for"):
            await client.open_async()

    async def no_such_route(_request: Any) -> Any:
        return reply(404, {"message": "no such route"})

    service.on["GET /v1/teams"] = no_such_route
    with pytest.raises(errors.NotFoundError, match=r"^team: cannot look up 'green': no such route"):
        await client.create_lora_training_client_async("acme/model")
    assert service.lines("/sessions") == []
    await client.aclose()


async def test_only_the_very_name_is_the_team(service: Any, reply: Any) -> None:
    """A server that searches instead of comparing must not put us into another team."""

    async def similar(_request: Any) -> Any:
        return reply(200, {"teams": [{"id": "t0", "name": "blue"}, {"id": "t1", "name": "Blue"}]})

    service.on["GET /v1/teams"] = similar
    async with ServiceClient(base_url=service.control, team="Blue"):
        assert service.lines("/sessions") == ["POST /v1/teams/t1/loops/sessions"]


async def test_the_runs_of_a_team_are_listed_before_there_is_a_session(service: Any) -> None:
    service.teams = [{"id": "t1", "name": "blue", "default": False, "created_at": "2026-01-01T00:00:00Z"}]
    async with contextlib.AsyncExitStack() as closing:
        client = ServiceClient(base_url=service.control, team="blue")
        closing.push_async_callback(client.aclose)
        await client.list_runs_async()
        await client.list_runs_async()
    assert service.lines("GET") == ["GET /v1/teams", *["GET /v1/teams/t1/loops/runs"] * 2]
    assert service.lines("POST") == []
