"""Mixers without attention against formulas and modules of timm."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual, SqueezeExcite
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F

from vitpareto.spaces.networks.conv_next import ConvNext
from vitpareto.spaces.networks.fused_mbconv import FusedMBConv
from vitpareto.spaces.networks.mbconv import MBConv
from vitpareto.spaces.networks.pool import AveragePool
from vitpareto.spaces.networks.token_mlp import TokenMlp

from .formulas import make, tokens
from .helpers import difference, place


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_token_mlp_mixes_tokens_and_no_channels() -> None:
    at = place(mixer="token_mlp", token_hidden=10)
    module, x = make(TokenMlp, at), tokens(at)
    for channel in (0, 23):
        hidden = F.gelu(x[..., channel] @ module.fc1.weight.T + module.fc1.bias)
        expected = hidden @ module.fc2.weight.T + module.fc2.bias
        assert difference(module(x)[..., channel], expected) < 1e-5


def test_average_pool() -> None:
    x = torch.randn(2, 24, 6, 6)
    out = AveragePool(place(mixer="pool"))(x)
    assert difference(out[..., 2, 3], x[..., 1:4, 2:5].mean((2, 3)) - x[..., 2, 3]) < 1e-6
    assert difference(out[..., 0, 0], x[..., :2, :2].mean((2, 3)) - x[..., 0, 0]) < 1e-6


def test_mbconv() -> None:
    at = place(mixer="mbconv", kernel_size=5, mlp_hidden=48)
    module, x = make(MBConv, at), torch.randn(2, 24, 6, 6)

    def norm(bn: nn.Module, t: Tensor) -> Tensor:
        shape = (-1, 1, 1)
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return (t - bn.running_mean.view(shape)) * scale.view(shape) + bn.bias.view(shape)

    expected = torch.einsum("bchw,dc->bdhw", x, module.conv_pw.weight[..., 0, 0])
    expected = F.gelu(norm(module.bn1, expected))
    expected = F.conv2d(expected, module.conv_dw.weight, padding=2, groups=48)
    expected = F.gelu(norm(module.bn2, expected))
    expected = torch.einsum("bchw,dc->bdhw", expected, module.conv_pwl.weight[..., 0, 0])
    assert difference(module(x), norm(module.bn3, expected)) < 1e-5


def test_mbconv_with_squeeze_and_excitation_is_that_of_mobilenet() -> None:
    at = replace(place(mixer="mbconv", kernel_size=5, mlp_hidden=48, se_hidden=8), act="hardswish")
    module, x = make(MBConv, at), torch.randn(2, 24, 6, 6)
    excite = partial(
        SqueezeExcite, rd_channels=8, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
    )
    settings = {"dw_kernel_size": 5, "exp_ratio": 2.0, "act_layer": nn.Hardswish}
    other = InvertedResidual(24, 24, se_layer=excite, noskip=True, **settings).eval()
    other.load_state_dict(module.state_dict())
    assert difference(module(x), other(x)) < 1e-5


def test_fused_mbconv_is_that_of_efficientnet() -> None:
    at = place(mixer="fused_mbconv", kernel_size=3, mlp_hidden=48)
    module, x = make(FusedMBConv, at), torch.randn(2, 24, 6, 6)
    other = EdgeResidual(24, 24, 3, exp_ratio=2.0, act_layer=nn.GELU, noskip=True).eval()
    other.load_state_dict(module.state_dict())
    assert difference(module(x), other(x)) < 1e-5


def test_conv_next_is_that_of_timm() -> None:
    at = place(mixer="conv_next", kernel_size=7, mlp_hidden=96)
    module, x = make(ConvNext, at), torch.randn(2, 24, 6, 6)
    other = ConvNeXtBlock(24, ls_init_value=None).eval()
    other.load_state_dict(
        {name.replace("fc", "mlp.fc"): value for name, value in module.state_dict().items()}
    )
    assert difference(x + module(x), other(x)) < 1e-5
