"""What a file of weights says of the network that it is of."""

import pytest
import timm
import torch

from vitpareto.search.start.weights import classes_in


@pytest.mark.parametrize(
    "name",
    [
        *("vit_tiny_patch16_224", "swinv2_tiny_window8_256", "convnext_atto", "poolformer_s12"),
        *("tiny_vit_5m_224", "efficientformer_l1", "efficientformerv2_s0", "levit_128s"),
        *("levit_conv_128s", "efficientvit_b0", "efficientvit_m0", "mobilenetv3_small_100"),
        *("mobilevit_xxs", "mobilevitv2_050", "mixer_s32_224", "resmlp_12_224"),
    ],
)
def test_the_head_of_each_family_is_known_by_name(name: str) -> None:
    """A checkpoint with it is not taken for one of a network without classes."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=7)
    assert classes_in(model.state_dict()) == 7
