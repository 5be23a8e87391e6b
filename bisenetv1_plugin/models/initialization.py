"""How the convolutions outside the backbone start, in each published family."""

from __future__ import annotations

import paddle.nn as nn
from paddleseg.cvlibs.param_init import normal_init, uniform_init


def initialize(network: nn.Layer, kind: str) -> None:
    """Draw the weights of all convolutions outside `network.backbone` anew, of mean 0.

    Args:
        network (BiSeNetV1)
        kind (str): 'fan_in_relu', variance 2 / fan_in, the authors' and Paddle's own, so nothing is drawn;
            'fan_in', variance 1 / fan_in: CoinCheung's and zllrunning's `kaiming_normal_(a=1)`;
            'fan_out_relu', variance 2 / fan_out: MMSegmentation's. There the last convolution of the principal head has
            the variance 0.01 ** 2, and those of the auxiliary heads are left as PyTorch makes them: uniform.
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
