"""Chat messages as token ids and training examples, by the chat template of the model's own tokenizer.

It decides which tokens of a conversation are learned. It knows no template: where a turn begins and ends is found by
rendering the conversation up to it, and a template that renders the same turn in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol

from loops_sdk.errors import InvalidInputError
from loops_sdk.rendering.messages import Message, checked
from loops_sdk.types import Datum, ModelInput
from loops_sdk.types._arrays import token_array
from loops_sdk.types._checks import shown

__all__ = ["IGNORED", "Renderer"]

#: As a target: "do not score this position".
IGNORED = -100
#: Tokens shown before and after the place where two renderings part.
_BEFORE, _AFTER = 4, 12


class ChatTokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers have it."""

    def apply_chat_template(
        self, conversation: Any, tools: Any = ..., *, add_generation_prompt: bool = ..., return_dict: bool = ...
    ) -> Any:
        """The token ids of a conversation."""

    def decode(self, token_ids: Any, skip_special_tokens: bool = ...) -> Any:
        """Their text."""


class Renderer:
    """Chat messages as token ids, and as training examples in which only the assistant's words are learned.

    A message is a dict with `role` (system, developer, user, assistant or tool; some templates know function and
    ipython) and `content`, a text; an assistant that only calls tools may leave `content` out. Whatever else a message
    holds, such as `tool_calls`, goes to the chat template as it is. An empty `content` is rendered as such, but an
    assistant turn that says nothing is not learned.

    Args:
        tokenizer: of the model, with a chat template, as `TrainingClient.get_tokenizer` gives it. Anything that has its
            `apply_chat_template` and `decode` will do.

    Raises:
        InvalidInputError: no such tokenizer, or one without a chat template.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        for method in ("apply_chat_template", "decode"):
            if not callable(getattr(tokenizer, method, None)):
                raise InvalidInputError(
                    f"tokenizer: expected one with apply_chat_template and decode, as get_tokenizer gives it; "
                    f"got {shown(tokenizer)}"
                )
        if getattr(tokenizer, "chat_template", "its own way") is None:
            raise InvalidInputError(
                "tokenizer: has no chat template: that of a base model that was never taught to chat. Take the "
                "tokenizer of its instruct variant, or set tokenizer.chat_template"
            )
        self._tokenizer = tokenizer

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
    ) -> ModelInput:
        """What a model reads before the assistant's next turn: the conversation and the mark that opens that turn.

        Args:
            messages: the conversation so far.
            tools: JSON schemas of the tools, or functions with docstrings, for templates that show them to the model.

        Raises:
            InvalidInputError: a message is wrong, or the template refuses the conversation.
        """
        return ModelInput.from_ints(self._render(checked(messages), tools, opened=True))

    def datum(
        self,
        messages: Sequence[Mapping[str, Any]],
        train_on: Literal["all", "last"] = "all",
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
    ) -> Datum:
        """A training example of what the assistant says.

        ``target_tokens`` holds at each position the token that comes next, where it is the assistant's, and -100
        everywhere else. The mark that ends a turn is learned too, for the model must know when to stop; the line break
        that some templates put behind it is not. What comes after the last turn that is learned is left out.

        Args:
            messages: the conversation.
            train_on: ``"all"``: every assistant turn is learned. ``"last"``: the last one only, those before it are
                context.
            tools: as in `prompt`.

        Raises:
            InvalidInputError: a message is wrong, there is no assistant turn, one that is to be learned is empty, the
                template refuses the conversation, or it renders an assistant turn differently once other messages
                follow, so that no single sequence holds every turn as the model is to say it. The message says which
                turn, what differs and what to do.
        """
        turns = _turns(checked(messages), train_on)
        conversation = list(messages[: turns[-1] + 1])
        whole = self._render(conversation, tools)
        targets = [IGNORED] * (len(whole) - 1)
        end = 1
        for turn in turns:
            _require_said(conversation[turn], turn)
            start, end = self._turn(conversation, turn, whole, tools)
            targets[start - 1 : end - 1] = whole[start:end]
        return Datum(ModelInput.from_ints(whole[: end - 1]), {"target_tokens": targets[: end - 1]})

    def observation(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
    ) -> list[int]:
        """What a model reads between its own turns: what the chat template makes of the messages behind the assistant's
        last one, and the mark that opens the next. It goes to `Rollout.observed`, behind a sample that ended its turn.

        Args:
            messages: the conversation so far; behind the assistant's last turn at least one message, such as a tool's
                result or the user's answer.
            tools: as in `prompt`.

        Returns:
            Token ids, from the first that comes behind the mark that ended the assistant's turn.

        Raises:
            InvalidInputError: a message is wrong, there is no assistant turn or nothing behind it, the template refuses
                the conversation, or it renders the assistant's turn differently once other messages follow.
        """
        conversation = checked(messages)
        turn = _turns(conversation, "last")[0]
        if turn == len(conversation) - 1:
            raise InvalidInputError(
                f"messages: expected what came behind the assistant's last turn (messages[{turn}]), such as a tool's "
                "result; nothing does"
            )
        whole = self._render(conversation, tools, opened=True)
        return whole[self._turn(conversation, turn, whole, tools)[1] :]

    def message(self, tokens: Any) -> dict[str, str]:
        """The assistant's turn as a message: ``{"role": "assistant", "content": ...}``.

        The special tokens at the end, which say that the turn is over, are removed. All else stays as the model said
        it, tool calls too, which are text in a form that each model has of its own.

        Args:
            tokens: the ids that were sampled (list, numpy or torch integers).

        Raises:
            InvalidInputError: not a flat sequence of token ids.
        """
        said: list[int] = token_array(tokens, "tokens").tolist()
        while said and self._is_special(said[-1]):
            said.pop()
        return {"role": "assistant", "content": self._text(said)}

    # ------------------------------------------------------------ rendering

    def _render(self, messages: list[Message], tools: Any, opened: bool = False) -> list[int]:
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=opened, return_dict=False
            )
        except Exception as error:  # whatever a template raises: it is a program of others
            raise InvalidInputError(
                f"messages: the chat template of this tokenizer refuses them: {type(error).__name__}: {error}"
            ) from error
        if isinstance(rendered, str):
            raise InvalidInputError("tokenizer: expected apply_chat_template to give token ids, got a text")
        tokens: list[int] = token_array(rendered, "tokenizer: apply_chat_template").tolist()
        return tokens

    def _turn(self, messages: list[Message], turn: int, whole: list[int], tools: Any) -> tuple[int, int]:
        """Where a turn begins and ends in the whole conversation."""
        if turn == 0:
            raise InvalidInputError(
                "messages[0]: an assistant turn that answers nothing cannot be learned; put a system or user message "
                "before it; with train_on='last' it may stay as context of a later turn"
            )
        prompt = self._render(messages[:turn], tools, opened=True)
        through = self._render(messages[: turn + 1], tools)
        if through[: len(prompt)] != prompt:
            self._refuse_opening(turn, prompt, through)
        if whole[: len(through)] != through:
            self._refuse_change(turn, through, whole)
        return len(prompt), self._end(through, len(prompt), turn)

    def _end(self, through: list[int], start: int, turn: int) -> int:
        """The end of what is learned of the last turn in `through`: without white space behind its last mark."""
        end = len(through)
        while end > start and self._text(through[end - 1 : end]).isspace():
            end -= 1
        if end == start or not self._is_special(through[end - 1]):
            end = len(through)  # white space may itself be what ends a turn
        if end == start:
            raise InvalidInputError(f"messages[{turn}]: the chat template renders this turn as nothing at all")
        return end

    def _is_special(self, token: int) -> bool:
        return self._text([token]) != "" and self._tokenizer.decode([token], skip_special_tokens=True) == ""

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    # ------------------------------------------------------------ templates that cannot be followed

    def _refuse_opening(self, turn: int, prompt: list[int], through: list[int]) -> NoReturn:
        here, there = self._parting(prompt, through)
        raise InvalidInputError(
            f"messages[{turn}]: the prompt of this turn is not how the chat template renders the conversation with the "
            f"turn in it: the prompt has {here} where the conversation has {there}. If the content begins with white "
            "space, remove it; otherwise make the datum from tokens: Rollout(renderer.prompt(messages[:"
            f"{turn}])) and the answer's own tokens"
        )

    def _refuse_change(self, turn: int, through: list[int], whole: list[int]) -> NoReturn:
        here, there = self._parting(through, whole)
        raise InvalidInputError(
            f"messages[{turn}]: the chat template renders this turn differently once later messages follow: {here} "
            f"becomes {there}. No single sequence then holds all turns as the model is to say them: learn the last "
            "turn only (train_on='last'), or split the conversation into one datum per assistant turn "
            f"(messages[:{turn + 1}], ...), each with train_on='last'"
        )

    def _parting(self, left: list[int], right: list[int]) -> tuple[str, str]:
        """Both texts around the first token in which they differ."""
        pairs = enumerate(zip(left, right, strict=False))
        place = next((index for index, (one, other) in pairs if one != other), min(len(left), len(right)))
        around = slice(max(0, place - _BEFORE), place + _AFTER)
        return repr(self._text(left[around])), repr(self._text(right[around]))


def _turns(messages: list[Message], train_on: str) -> list[int]:
    """Indices of the assistant turns to be learned."""
    if train_on not in ("all", "last"):
        raise InvalidInputError(f"train_on: expected 'all' or 'last', got {shown(train_on)}")
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise InvalidInputError(
            "messages: there is no assistant turn to learn; expected at least one message with role 'assistant' "
            "(for a prompt to sample from use Renderer.prompt)"
        )
    return turns if train_on == "all" else turns[-1:]


def _require_said(message: Message, turn: int) -> None:
    """An empty answer is mostly a hole in the data, and would teach the model to end its turn at once."""
    if not (message.get("content") or "").strip() and not message.get("tool_calls"):
        raise InvalidInputError(
            f"messages[{turn}]['content']: expected something to learn, got {shown(message['content'])}: this turn of "
            "the assistant is empty, and would teach the model to say nothing. Leave the conversation out, or learn "
            "another turn (train_on='last'); if silence is what you want, make the datum from tokens"
        )
