"""What the corrections of PaddleSeg's `train` share; no correction itself."""

import inspect
import sys

import paddleseg.core


def module():
    """The module in which PaddleSeg's `train` runs. The name `paddleseg.core.train` is the function's."""
    return sys.modules[inspect.unwrap(paddleseg.core.train).__module__]


def names():
    """The global names and attributes that the code of PaddleSeg's own `train` uses."""
    return set(inspect.unwrap(paddleseg.core.train).__code__.co_names)


def replace(train):
    """Put another `train` where PaddleSeg's tools and modules take it from."""
    paddleseg.core.train = module().train = train


class PaddleWithSave:
    """The `paddle` that one module sees: with another `save`, while nobody else's changes."""

    def __init__(self, paddle, save):
        self._paddle = paddle
        self.save = save

    def __getattr__(self, name):
        return getattr(self._paddle, name)
