"""The initial weights of the convolutions outside the backbone, for each published implementation."""

from __future__ import annotations

import paddle.nn as nn
from paddleseg.cvlibs.param_init import normal_init, uniform_init


def initialize(network: nn.Layer, kind: str) -> None:
    """Initialize the weights of all convolutions outside `network.backbone`, with mean 0.

    Args:
        network: a `BiSeNetV1`.
        kind: one of
            'fan_in_relu': variance 2 / fan_in, as in the authors' code. It is Paddle's default, so nothing is changed.
            'fan_in': variance 1 / fan_in, as CoinCheung's and zllrunning's `kaiming_normal_(a=1)`.
            'fan_out_relu': variance 2 / fan_out, as in MMSegmentation. The last convolution of the principal head has
            variance 0.01 ** 2. Those of the auxiliary heads have PyTorch's default, a uniform distribution.
    """
    if kind == "fan_in_relu":
        return
    for name, layer in network.named_sublayers():
        if isinstance(layer, nn.Conv2D) and not name.startswith("backbone."):
            out_channels, in_channels, height, width = layer.weight.shape
            variance = 1 / in_channels if kind == "fan_in" else 2 / out_channels
            normal_init(layer.weight, std=(variance / height / width) ** 0.5)
    if kind == "fan_out_relu":
        *auxiliary, principal = network.heads
        normal_init(principal.conv_1x1.weight, std=0.01)
        for head in auxiliary:
            bound = head.conv_1x1.weight.shape[1] ** -0.5
            uniform_init(head.conv_1x1.weight, low=-bound, high=bound)
