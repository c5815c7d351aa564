"""From a config to its model."""

from __future__ import annotations

from flax import linen as nn

from gr_jax.model import config as model_config
from gr_jax.model import llama, protocol, t5


def build(config: model_config.ModelConfig) -> protocol.GenerativeModel:
    """The model that a config describes."""
    if isinstance(config, model_config.T5Config):
        return t5.T5(config)
    return llama.Llama(config)


def module(config: model_config.ModelConfig) -> nn.Module:
    """The Linen module that the model applies, for frameworks that take one."""
    if isinstance(config, model_config.T5Config):
        return t5.Module(config)
    return llama.Module(config)
