"""Checks of a model: the gradients of its parameters, layer by layer, rule by rule, and in training."""
