"""Conversations as token ids and training examples: what is learned, for templates of several kinds, and what is
refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from loops_sdk import Datum, InvalidInputError, ModelInput, Renderer
from loops_sdk.local.engine.tiny import WEIGHTS

from . import chat_tokenizers
from .chat_tokenizers import CharacterTokenizer, chatml, forgetful, llama, plain, thinking_ahead

TINY: Any = AutoTokenizer.from_pretrained(WEIGHTS)
Messages = list[dict[str, str]]
ENDS = {chatml: "<|im_end|>", llama: "<|eot|>", plain: "\n", forgetful: "<|im_end|>"}

texts = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=12)
words = texts.filter(str.strip)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    """A system message or none, then questions and answers; the last question may be open."""
    messages = [said("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [said("user", draw(texts)), said("assistant", draw(words))]
    return [*messages, said("user", draw(texts))] if draw(st.booleans()) else messages


def learned(datum: Datum) -> list[int]:
    return [token for token in datum.loss_fn_inputs["target_tokens"].tolist() if token != -100]


def answers(messages: Messages) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "assistant"]


# ------------------------------------------------------------------ what is learned


@pytest.mark.parametrize("template", [chatml, plain])
@given(messages=conversations())
def test_all_that_the_assistant_says_is_learned_with_the_end_of_its_turns(template: Any, messages: Messages) -> None:
    tokenizer = CharacterTokenizer(template)
    datum = Renderer(tokenizer).datum(messages, train_on="all")
    assert tokenizer.decode(learned(datum)) == "".join(answer + ENDS[template] for answer in answers(messages))


@given(conversations())
def test_a_template_may_trim_what_is_said(messages: Messages) -> None:
    tokenizer = CharacterTokenizer(llama)
    datum = Renderer(tokenizer).datum(messages)
    assert tokenizer.decode(learned(datum)) == "".join(f"{answer.strip()}<|eot|>" for answer in answers(messages))


@pytest.mark.parametrize("template", ENDS)
@given(messages=conversations())
def test_the_last_turn_alone(template: Any, messages: Messages) -> None:
    tokenizer = CharacterTokenizer(template)
    datum = Renderer(tokenizer).datum(messages, train_on="last")
    answer = answers(messages)[-1].strip() if template is llama else answers(messages)[-1]
    assert tokenizer.decode(learned(datum)) == answer + ENDS[template]


@pytest.mark.parametrize("template", [chatml, llama, plain])
@given(messages=conversations())
def test_targets_are_the_tokens_that_come_next(template: Any, messages: Messages) -> None:
    tokenizer = CharacterTokenizer(template)
    datum = Renderer(tokenizer).datum(messages)
    tokens, targets = datum.model_input.to_ints(), datum.loss_fn_inputs["target_tokens"].tolist()
    whole = tokenizer.encode(template(messages, False))
    assert tokens == whole[: len(tokens)]
    assert all(target in (-100, token) for target, token in zip(targets, whole[1:], strict=False))
    assert targets[-1] == whole[len(tokens)] != -100  # nothing that is not learned stands at the end


@pytest.mark.parametrize("template", [chatml, llama, plain, forgetful])
@given(messages=conversations())
def test_what_is_learned_is_what_a_sample_of_the_prompt_would_be(template: Any, messages: Messages) -> None:
    renderer = Renderer(CharacterTokenizer(template))
    datum = renderer.datum(messages, train_on="last")
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    prompt = renderer.prompt(messages[:last]).to_ints()
    assert prompt + learned(datum) == [*datum.model_input.to_ints(), learned(datum)[-1]]


@given(conversations())
def test_the_shipped_model_learns_what_its_template_marks(messages: Messages) -> None:
    rendered = TINY.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [one for one, mine in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if mine]
    assert learned(Renderer(TINY).datum(messages)) == marked


def test_where_each_turn_stands() -> None:
    tokenizer = CharacterTokenizer(plain)
    datum = Renderer(tokenizer).datum([said("user", "a"), said("assistant", "b"), said("user", "c")])
    assert tokenizer.decode(datum.model_input.to_ints()) == "user: a\nassistant: b"
    assert datum.loss_fn_inputs["target_tokens"].tolist() == [-100] * 18 + tokenizer.encode("b\n")


def test_a_line_break_behind_the_end_of_a_turn_is_not_learned() -> None:
    tokenizer = CharacterTokenizer(chatml)
    datum = Renderer(tokenizer).datum([said("user", "a"), said("assistant", "b\n")])
    assert tokenizer.decode(learned(datum)) == "b\n<|im_end|>"


def test_tools_and_calls_go_to_the_template_as_they_are() -> None:
    def called(messages: Any, opened: bool) -> str:
        return chatml([{**one, "content": one.get("content") or str(one["tool_calls"])} for one in messages], opened)

    tokenizer, tools = CharacterTokenizer(called), [{"type": "function", "function": {"name": "add"}}]
    calls = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    messages = [said("user", "1 + 1?"), {"role": "assistant", "tool_calls": calls}, said("tool", "2")]
    assert tokenizer.decode(learned(Renderer(tokenizer).datum(messages, tools=tools))) == f"{calls}<|im_end|>"
    assert tokenizer.tools == tools
    tokenizer.tools = None
    assert tokenizer.decode(Renderer(tokenizer).prompt(messages, tools).to_ints()).endswith("<|im_start|>assistant\n")
    assert tokenizer.tools == tools
    tokenizer.tools = None
    assert Renderer(tokenizer).observation(messages, tools)
    assert tokenizer.tools == tools


# ------------------------------------------------------------------ prompts and answers


@given(conversations())
def test_a_prompt_opens_the_assistants_turn(messages: Messages) -> None:
    prompt = Renderer(TINY).prompt(messages)
    assert isinstance(prompt, ModelInput)
    assert prompt.to_ints() == TINY.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("template", [chatml, plain])
@given(messages=conversations())
def test_an_answer_becomes_the_message_that_it_was(template: Any, messages: Messages) -> None:
    renderer = Renderer(CharacterTokenizer(template))
    spoken = learned(renderer.datum(messages, train_on="last"))
    end = "\n" if template is plain else ""
    assert renderer.message(spoken) == said("assistant", answers(messages)[-1] + end)


def test_an_answer_that_was_cut_off_and_one_of_numpy() -> None:
    renderer, tokens = Renderer(TINY), TINY.encode("Ahoy! The ferry")
    assert renderer.message(tokens) == said("assistant", "Ahoy! The ferry")
    assert renderer.message(np.array([*tokens, TINY.eos_token_id])) == said("assistant", "Ahoy! The ferry")


def test_marks_inside_an_answer_stay_as_the_model_said_them() -> None:
    tokens = TINY.encode("one<|user|>two<|end|><|end|>")
    assert Renderer(TINY).message(tokens) == said("assistant", "one<|user|>two")


@pytest.mark.parametrize("template", [chatml, llama, plain])
@given(messages=conversations(), reply=texts)
def test_an_observation_leads_from_one_turn_to_the_next(template: Any, messages: Messages, reply: str) -> None:
    """What was sampled and what is observed behind it make up the next prompt, to the token."""
    tokenizer = CharacterTokenizer(template)
    renderer = Renderer(tokenizer)
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    sampled = learned(renderer.datum(messages[: last + 1], train_on="last"))
    after = [*messages[: last + 1], said("tool", reply)]
    prompt = renderer.prompt(messages[:last]).to_ints()
    assert prompt + sampled + renderer.observation(after) == renderer.prompt(after).to_ints()


def test_what_is_observed_in_the_format_of_the_shipped_model() -> None:
    after = [said("user", "Price?"), said("assistant", "Look up tea."), said("user", "7")]
    assert TINY.decode(Renderer(TINY).observation(after)) == "<|user|>7<|end|><|assistant|>"


# ------------------------------------------------------------------ templates that cannot be followed

THOUGHTS = [
    said("user", "1?"),
    said("assistant", "<think>hm</think>\n\none"),
    said("user", "2?"),
    said("assistant", "x"),
]


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        call(*arguments, **options)
    return caught.value.message


def test_a_template_that_rewrites_earlier_turns_is_refused_with_what_to_do() -> None:
    renderer = Renderer(CharacterTokenizer(forgetful))
    told = refused(renderer.datum, THOUGHTS)
    assert told.startswith("messages[1]: the chat template renders this turn differently once later messages follow:")
    assert "'ant\\n<think>hm</t' becomes 'ant\\none<|im_end|>\\n<|im_start|>user\\n2'" in told
    assert "train_on='last'" in told
    assert "messages[:2]" in told
    each = [renderer.datum(THOUGHTS[:end], train_on="last") for end in (2, 4)]  # the advice, followed
    texts = [renderer._tokenizer.decode(learned(datum)) for datum in each]
    assert texts == ["<think>hm</think>\n\none<|im_end|>", "x<|im_end|>"]


@given(conversations(), st.booleans())
def test_it_is_refused_only_where_something_is_lost(messages: Messages, thinks: bool) -> None:
    """A thought in a turn after which the assistant speaks again."""
    renderer = Renderer(CharacterTokenizer(forgetful))
    first = next(index for index, message in enumerate(messages) if message["role"] == "assistant")
    messages = [{**one, "content": one["content"].strip() or "x"} for one in messages]
    if thinks:
        messages[first]["content"] = "<think>hm</think>" + messages[first]["content"]
    if thinks and len(answers(messages)) > 1:
        assert f"messages[{first}]" in refused(renderer.datum, messages)
    else:
        assert learned(renderer.datum(messages)) == learned(Renderer(CharacterTokenizer(chatml)).datum(messages))


def test_an_observation_that_changes_what_was_said_is_refused() -> None:
    told = refused(Renderer(CharacterTokenizer(forgetful)).observation, THOUGHTS[:3])
    assert told.startswith("messages[1]: the chat template renders this turn differently once later messages follow:")


def test_nothing_to_observe() -> None:
    renderer = Renderer(TINY)
    told = refused(renderer.observation, [HELLO, said("assistant", "Hi")])
    assert told.startswith("messages: expected what came behind the assistant's last turn (messages[1])")
    assert refused(renderer.observation, [HELLO]).startswith("messages: there is no assistant turn")


def test_a_prompt_that_says_more_than_the_conversation_is_refused_with_what_to_do() -> None:
    told = refused(Renderer(CharacterTokenizer(thinking_ahead)).datum, [said("user", "1?"), said("assistant", "one")])
    assert told.startswith("messages[1]: the prompt of this turn is not how the chat template renders the conversation")
    assert "the prompt has 'ant\\n<think>\\n' where the conversation has 'ant\\none<|im_end|>\\n'" in told
    assert "Rollout(renderer.prompt(messages[:1]))" in told


def test_tokens_that_grow_together_across_the_beginning_of_a_turn_are_refused() -> None:
    """Byte-pair tokenizers have one token for two line breaks."""

    class Merging(CharacterTokenizer):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("\n\n", "\u2028"))

    told = refused(Renderer(Merging(chatml)).datum, [said("user", "1?"), said("assistant", "\none")])
    assert "If the content begins with white space, remove it" in told


def test_a_turn_that_leaves_no_trace() -> None:
    def mute(messages: Any, opened: bool) -> str:
        return "".join(one["content"] for one in messages if one["role"] != "assistant")

    told = refused(Renderer(CharacterTokenizer(mute)).datum, [said("user", "1?"), said("assistant", "one")])
    assert told == "messages[1]: the chat template renders this turn as nothing at all"


def test_what_a_template_says_when_it_refuses() -> None:
    told = refused(Renderer(TINY).prompt, [said("tool", "2")])
    assert told.startswith("messages: the chat template of this tokenizer refuses them: TemplateError: ")
    assert told.endswith("role must be system, user or assistant, not tool")


# ------------------------------------------------------------------ wrong arguments

HELLO = said("user", "Hello!")
WRONG: dict[str, tuple[Any, str]] = {
    "a text": ("Hello!", "messages: expected a list of messages such as [{'role': 'user'"),
    "one message": (HELLO, "messages: expected a list of messages such as [{'role': 'user'"),
    "nothing": ([], "messages: expected a list of messages such as [{'role': 'user'"),
    "texts": (["Hello!"], "messages[0]: expected a dict with 'role' and 'content', got 'Hello!'"),
    "other keys": (
        [{"from": "human", "value": "Hello!"}],
        "messages[0]: has no 'role', only 'from', 'value'; expected 'role' and 'content'",
    ),
    "no content": ([HELLO, {"role": "user"}], "messages[1]: has no 'content', only 'role'; expected a text there"),
    "an unknown role": (
        [said("human", "Hello!")],
        "messages[0]['role']: expected one of system, developer, user, assistant, tool, function, ipython, got 'human'",
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "image"}]}],
        "messages[0]['content']: expected text, got [{'type': 'image'}]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_messages_are_named(name: str) -> None:
    messages, told = WRONG[name]
    renderer = Renderer(TINY)
    assert refused(renderer.prompt, messages).startswith(told)
    assert refused(renderer.datum, messages).startswith(told)


def test_a_conversation_in_which_the_assistant_says_nothing() -> None:
    assert refused(Renderer(TINY).datum, [HELLO]).startswith("messages: there is no assistant turn to learn;")


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_an_empty_turn_is_not_learned(nothing: str) -> None:
    renderer = Renderer(TINY)
    messages = [HELLO, said("assistant", nothing), HELLO, said("assistant", "Hi")]
    told = refused(renderer.datum, messages)
    assert told.startswith(f"messages[1]['content']: expected something to learn, got {nothing!r}: ")
    assert refused(renderer.datum, messages[:2], train_on="last") == told
    assert TINY.decode(learned(renderer.datum(messages, train_on="last"))) == "Hi<|end|>"  # as context it may stay


def test_other_empty_messages_are_rendered_as_such() -> None:
    """A model may have said nothing, and be told something nevertheless."""
    renderer = Renderer(TINY)
    messages = [said("system", ""), said("user", ""), said("assistant", "Hi")]
    assert TINY.decode(learned(renderer.datum(messages))) == "Hi<|end|>"
    silent = [HELLO, said("assistant", ""), said("user", "Well?")]
    assert TINY.decode(renderer.prompt(silent).to_ints()).endswith("<|user|>Well?<|end|><|assistant|>")
    assert TINY.decode(renderer.observation(silent)) == "<|user|>Well?<|end|><|assistant|>"


def test_a_conversation_that_the_assistant_opens() -> None:
    messages = [said("assistant", "Ahoy!"), HELLO, said("assistant", "What is it?")]
    renderer = Renderer(TINY)
    assert refused(renderer.datum, messages).startswith("messages[0]: an assistant turn that answers nothing")
    assert TINY.decode(learned(renderer.datum(messages, train_on="last"))) == "What is it?<|end|>"


def test_wrong_turns_to_learn() -> None:
    told = refused(Renderer(TINY).datum, [HELLO, said("assistant", "Hi")], train_on="first")
    assert told == "train_on: expected 'all' or 'last', got 'first'"


def test_no_tokenizer_and_one_that_cannot_chat() -> None:
    assert refused(Renderer, "Qwen/Qwen3-8B").startswith("tokenizer: expected one with apply_chat_template and decode")
    mute: Any = AutoTokenizer.from_pretrained(WEIGHTS)
    mute.chat_template = None
    assert refused(Renderer, mute).startswith("tokenizer: has no chat template:")


def test_a_tokenizer_that_gives_text() -> None:
    class Writing(CharacterTokenizer):
        def apply_chat_template(self, *arguments: Any, **options: Any) -> Any:
            return "Hello!"

    told = refused(Renderer(Writing(chatml)).prompt, [HELLO])
    assert told == "tokenizer: expected apply_chat_template to give token ids, got a text"


def test_wrong_tokens_of_an_answer() -> None:
    assert refused(Renderer(TINY).message, [[1, 2]]).startswith("tokens: expected a flat sequence of token ids")


def test_the_templates_here_are_of_different_kinds() -> None:
    assert len({template([HELLO], True) for template in (chatml, llama, plain, chat_tokenizers.thinking_ahead)}) == 4
