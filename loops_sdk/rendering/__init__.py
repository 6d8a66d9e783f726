"""From chat messages and episodes to what is trained on: token ids, targets and log-probabilities in their places."""

from loops_sdk.rendering.renderer import Renderer
from loops_sdk.rendering.rollouts import Rollout, group_advantages

__all__ = ["Renderer", "Rollout", "group_advantages"]
