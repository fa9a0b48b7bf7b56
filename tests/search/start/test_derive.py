"""Spaces derived from networks of others: the largest member is the network."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from click.testing import CliRunner
from safetensors.torch import save_file
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from vitpareto.cost_models import workload
from vitpareto.search.cli.commands import cli
from vitpareto.search.start.derive import derived
from vitpareto.search.start.models import open_model
from vitpareto.search.start.weights import looks_like
from vitpareto.spaces import Candidate, SearchSpace
from vitpareto.spaces.convert.contract import with_noise
from vitpareto.spaces.errors import RunError, SpaceError
from vitpareto.spaces.networks import Network

from ...shared import (
    slim_efficientformer,
    slim_efficientvit,
    slim_efficientvit_msra,
    slim_levit,
    slim_poolformer,
)

INPUT = {"test_vit": 160, "levit_128s": 224}  # pixels
NAME, VIT = "test_vit", "vit_tiny_patch16_224"  # timm's smallest, and a usual one


def slim(name: str, **options: Any) -> nn.Module:
    return with_noise(timm.create_model(name, depth=4, **options)).eval()


SLIM = {"embed_dim": 48, "num_heads": 3}
MODELS = {
    "vit_tiny_patch16_224": {"img_size": 48, "num_classes": 5, **SLIM},
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, "num_classes": 0, **SLIM},
    "eva02_tiny_patch14_224": {"img_size": 56, "num_classes": 5, **SLIM},
    "vit_pe_core_tiny_patch16_384": {"img_size": 64, "num_classes": 5, **SLIM},
    "vit_small_patch16_dinov3": {"img_size": 48, "num_classes": 5, **SLIM},
}


@pytest.mark.parametrize("name", MODELS)
def test_the_largest_member_is_the_network(name: str) -> None:
    model = slim(name, **MODELS[name])
    space, found = derived(model, name)
    size = model(torch.randn(1, 3, *[space.largest().architecture.input_size] * 2)).abs().max()
    assert found["max_abs_difference"] < 1e-4 * size
    assert found["params"] == sum(p.numel() for p in model.parameters())
    again = SearchSpace.from_text(space.to_yaml())
    assert again.largest().key == found["key"] == space.largest().key
    assert space.largest() == Candidate.uncompressed(space.largest().architecture)
    kinds = set[str]()
    for candidate in space.sample(10):
        assert candidate in again
        network = Network(candidate.architecture)
        assert workload(candidate).params == sum(p.numel() for p in network.parameters())
        assert workload(candidate).macs <= found["macs"] * 1.6  # other mixers may cost more
        kinds |= {block.mixer for block in candidate.architecture.blocks()}
    assert kinds == {"softmax", "grouped", "pooled", "linear"}


def test_a_hierarchy_and_a_mixer() -> None:
    swin = timm.create_model("swin_tiny_patch4_window7_224", depths=(2, 2), embed_dim=48,
                             num_heads=(3, 6), img_size=56, num_classes=5)  # fmt: skip
    mixer = MlpMixer(img_size=64, num_blocks=2, embed_dim=48)
    convolutions = timm.create_model("convnext_atto", depths=(1, 1, 3, 1), dims=(16, 24, 32, 40))
    turns = timm.create_model("tiny_vit_5m_224", embed_dims=(16, 16, 24), depths=(1, 2, 1),
                              num_heads=(1, 2, 3), window_sizes=(4, 4, 4))  # fmt: skip
    turns.default_cfg = {"input_size": (3, 64, 64)}
    pools = slim_poolformer(), slim_poolformer(2)
    others = swin, mixer, convolutions, turns, slim_efficientformer(), slim_levit()
    for model in (*others, *pools, slim_efficientvit(), slim_efficientvit_msra()):
        _, found = derived(with_noise(model.eval()), "start")
        assert found["max_abs_difference"] < 1e-4


def test_blocks_that_differ_are_refused() -> None:
    model = slim(VIT, **MODELS[VIT])
    model.blocks[1].mlp = timm.layers.Mlp(48, 64)
    with pytest.raises(SpaceError, match="its blocks are of different sizes"):
        derived(with_noise(model), "odd")


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, ["space", "derive", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return with_noise(timm.create_model(NAME, num_classes=3)).state_dict()


def test_the_command_with_random_weights(tmp_path: Path) -> None:
    out = tmp_path / "new" / "space.yaml"
    options = ("--random-weights", "--json", "--classes", "7", "--input-size", "64")
    found = run(NAME, *options, "--out", str(out))
    space = SearchSpace.from_yaml(out)
    assert found["key"] == space.largest().key and found["max_abs_difference"] < 1e-3
    a = space.largest().architecture
    assert (a.num_classes, a.input_size) == (7, 64)
    assert found["params"] == workload(Candidate.uncompressed(a)).params
    assert {"model", "key", "params", "macs", "max_abs_difference"} <= found.keys()
    assert f"derive {NAME} --classes 7 --input-size 64 --random-weights --out" in out.read_text()


def test_checkpoints(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Safetensors, DataParallel, averaged weights of timm and of torch, a Lightning module."""
    files = [tmp_path / name for name in ("a.safetensors", "b.pth", "c.pth.tar", "d.pt", "e.ckpt")]
    save_file(trained, files[0])
    torch.save({f"module.{name}": value for name, value in trained.items()}, files[1])
    wrong = {name: torch.zeros_like(value) for name, value in trained.items()}
    torch.save({"state_dict": wrong, "state_dict_ema": trained, "epoch": 3}, files[2])
    averaged = torch.optim.swa_utils.AveragedModel(timm.create_model(NAME, num_classes=3))
    averaged.module.load_state_dict(trained)
    torch.save(averaged.state_dict(), files[3])
    held = {f"model.backbone.{name}": value for name, value in trained.items()}
    torch.save({"state_dict": held, "pytorch-lightning_version": "2.5"}, files[4])
    for file in files:
        model = open_model(NAME, checkpoint=str(file))
        assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_another_size(tmp_path: Path) -> None:
    """Its table tells at which size it was trained; another one can be asked for."""
    path = tmp_path / "large.safetensors"
    state = timm.create_model(NAME, num_classes=2, img_size=96).state_dict()
    save_file(state, path)
    assert open_model(NAME, checkpoint=str(path)).patch_embed.img_size == (96, 96)
    model = open_model(NAME, checkpoint=str(path), input_size=128)
    assert model.pos_embed.shape[1] == 65


@pytest.mark.parametrize("name", [NAME, "levit_128s"])
def test_a_checkpoint_of_gray_images(name: str, tmp_path: Path) -> None:
    """As timm trains with `--in-chans 1`: its first kernel tells."""
    trained = with_noise(timm.create_model(name, num_classes=2, in_chans=1)).eval()
    save_file(trained.state_dict(), path := tmp_path / "gray.safetensors")
    model, images = open_model(name, checkpoint=str(path)), torch.randn(2, 1, *[INPUT[name]] * 2)
    assert torch.equal(model(images), trained(images))
    assert derived(model, name)[0].largest().architecture.in_chans == 1


def test_weights_of_jax(tmp_path: Path) -> None:
    """Names and axes of Google's vision_transformer, as its release documents them."""
    source = with_noise(timm.create_model(NAME, num_classes=3)).state_dict()
    path = tmp_path / "weights.npz"
    np.savez(path, **as_jax(source))
    model = open_model(NAME, checkpoint=str(path), classes=3)
    for name, value in model.state_dict().items():
        assert torch.allclose(value, source[name], atol=1e-6), name


def test_weights_of_jax_have_classes_and_a_size_of_their_own(tmp_path: Path) -> None:
    """timm would leave a head of other classes at random, and make the rest fit without a word."""
    source = with_noise(timm.create_model(NAME, num_classes=3, img_size=96)).eval()
    path = tmp_path / "weights.npz"
    jax = as_jax(source.state_dict())
    np.savez(path, **jax)
    model, images = open_model(NAME, checkpoint=str(path)), torch.randn(2, 3, 96, 96)
    assert torch.allclose(model(images), source(images), atol=1e-5)
    np.savez(path, **jax, **{"pre_logits/kernel": np.zeros((64, 64), np.float32)})
    assert open_model(NAME, checkpoint=str(path)).num_classes == 0  # its head reads another layer

    def refused(reason: str, more: dict[str, np.ndarray], **options: Any) -> None:
        np.savez(path, **jax | more)
        with pytest.raises(RunError, match=reason):
            open_model(NAME, checkpoint=str(path), **options)

    refused("has a head of 3 classes, --classes says 4", {}, classes=4)
    refused(
        "patch_embed.proj.weight is 64x3x8x8 instead of 64x3x16x16",
        {"embedding/kernel": np.zeros((8, 8, 3, 64), np.float32)},
    )
    refused(
        "blocks.6.norm1.weight is unknown",
        {"Transformer/encoderblock_6/LayerNorm_0/scale": np.ones(64, np.float32)},
    )


def as_jax(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """timm's names and axes as those of Google's vision_transformer."""
    arrays = {name: value.numpy() for name, value in state.items()}
    jax = {
        "embedding/kernel": arrays["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": arrays["patch_embed.proj.bias"],
        "cls": arrays["cls_token"],
        "Transformer/posembed_input/pos_embedding": arrays["pos_embed"],
        "Transformer/encoder_norm/scale": arrays["norm.weight"],
        "Transformer/encoder_norm/bias": arrays["norm.bias"],
        "head/kernel": arrays["head.weight"].T,
        "head/bias": arrays["head.bias"],
    }
    for index in range(6):
        block = {n: arrays[f"blocks.{index}.{n}"] for n in (
            *("attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"),
            *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"),
            *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
        )}  # fmt: skip
        start = f"Transformer/encoderblock_{index}/"
        attention = start + "MultiHeadDotProductAttention_1/"
        weights, biases = np.split(block["attn.qkv.weight"], 3), np.split(block["attn.qkv.bias"], 3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            jax[f"{attention}{part}/kernel"] = weight.T.reshape(64, 2, 32)
            jax[f"{attention}{part}/bias"] = bias.reshape(2, 32)
        jax[f"{attention}out/kernel"] = block["attn.proj.weight"].T.reshape(2, 32, 64)
        jax[f"{attention}out/bias"] = block["attn.proj.bias"]
        for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            jax[f"{start}{theirs}/scale"] = block[f"{ours}.weight"]
            jax[f"{start}{theirs}/bias"] = block[f"{ours}.bias"]
        for ours, theirs in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            jax[f"{start}MlpBlock_3/{theirs}/kernel"] = block[f"mlp.{ours}.weight"].T
            jax[f"{start}MlpBlock_3/{theirs}/bias"] = block[f"mlp.{ours}.bias"]
    return jax


SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 48}
FOLDERS = {
    "ViTForImageClassification": ("ViTConfig", {"intermediate_size": 96, "num_labels": 4}),
    "DeiTForImageClassification": ("DeiTConfig", {"intermediate_size": 96, "num_labels": 4}),
    "Dinov2ForImageClassification": ("Dinov2Config", {"num_labels": 4}),
    "Dinov2Model": ("Dinov2Config", {}),
    "DINOv3ViTModel": ("DINOv3ViTConfig", {"intermediate_size": 96, "num_register_tokens": 4}),
}


SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6]}
FOLDERS |= {
    "SwinForImageClassification": ("SwinConfig", {**SWIN, "window_size": 4, "num_labels": 4}),
    "SwinModel": ("SwinConfig", {**SWIN, "window_size": 8}),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_of_transformers(kind: str, tmp_path: Path) -> None:
    config, options = FOLDERS[kind]
    settings = options if "Swin" in kind else {**SMALL, "patch_size": 16, **options}
    model = with_noise(getattr(transformers, kind)(getattr(transformers, config)(**settings)))
    model.save_pretrained(tmp_path)
    opened = open_model(str(tmp_path))
    assert all(torch.equal(v, opened.state_dict()[n]) for n, v in model.state_dict().items())
    _, found = derived(opened, str(tmp_path))
    assert found["max_abs_difference"] < 1e-4
    assert type(open_model(str(tmp_path), random_weights=True)).__name__ == kind


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_folders_of_transformers_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    config, options = FOLDERS["ViTForImageClassification"]
    settings = getattr(transformers, config)(**SMALL, patch_size=16, **options)
    model = with_noise(transformers.ViTForImageClassification(settings)).to(dtype)
    model.save_pretrained(tmp_path)
    read = open_model(str(tmp_path)).state_dict()
    assert all(torch.equal(value, read[n]) for n, value in model.float().state_dict().items())
    for random_weights in (False, True):
        opened = open_model(str(tmp_path), random_weights=random_weights)
        assert derived(opened, str(tmp_path))[1]["max_abs_difference"] < 1e-4


def test_a_folder_of_timm(tmp_path: Path) -> None:
    trained = with_noise(timm.create_model(VIT, num_classes=3)).state_dict()
    about = {"architecture": VIT, "num_classes": 3, "pretrained_cfg": {"classifier": "head"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    save_file(trained, tmp_path / "model.safetensors")
    for name in (str(tmp_path), f"local-dir:{tmp_path}"):
        state = open_model(name, classes=3).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in trained.items())


class Dangerous:
    def __reduce__(self) -> Any:
        return (print, ("code was run",))


def test_bad_checkpoints(
    trained: dict[str, torch.Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(reason: str, name: str = NAME, **options: Any) -> None:
        with pytest.raises((RunError, SpaceError), match=reason) as error:
            open_model(name, **options)
        assert "\n" not in str(error.value)

    good = tmp_path / "good.safetensors"
    save_file(trained, good)
    tiny = tmp_path / "tiny.safetensors"
    save_file(timm.create_model(VIT, depth=1).state_dict(), tiny)
    refused("has other tensors.*they look like those of vit_tiny", checkpoint=str(tiny))
    refused("has a head of 3 classes, --classes says 4", checkpoint=str(good), classes=4)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    refused("it is damaged", checkpoint=str(cut))
    code = tmp_path / "code.pth"
    code.write_bytes(pickle.dumps({"head.weight": Dangerous()}))
    refused("could run any code|no checkpoint", checkpoint=str(code))
    torch.save({"state_dict": Dangerous()}, tmp_path / "code.pt")
    refused("which could run any code", checkpoint=str(tmp_path / "code.pt"))
    assert "code was run" not in capfd.readouterr().out
    refused("no such file", checkpoint=str(tmp_path / "none.npz"))
    empty = tmp_path / "empty.npz"
    np.savez(empty, a=np.zeros(1))
    refused("--checkpoint", checkpoint=str(empty))
    refused("give one of them", checkpoint=str(good), random_weights=True)
    refused("no timm model is named", "vit_tini")
    refused("torchvision has no vit named 'resnet18'", "torchvision:resnet18")
    refused("no converter for timm.ResNet", "resnet18", random_weights=True)
    (tmp_path / "folder").mkdir()
    refused("no config.json", str(tmp_path / "folder"))


def test_a_checkpoint_without_a_head(trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """It is a backbone, whose answers are its features."""
    bare = {name: value for name, value in trained.items() if not name.startswith("head.")}
    save_file(bare, tmp_path / "bare.safetensors")
    model = open_model(NAME, checkpoint=str(tmp_path / "bare.safetensors"))
    assert model.state_dict().keys() == bare.keys()
    space, found = derived(model, NAME)
    assert space.largest().architecture.num_classes == 0
    assert found["max_abs_difference"] < 1e-4


def test_folders_whose_weights_do_not_fit(
    trained: dict[str, torch.Tensor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What transformers would fill in at random, or read as a pickle."""
    config, options = FOLDERS["ViTForImageClassification"]
    settings = getattr(transformers, config)(**SMALL, patch_size=16, **options)
    model = transformers.ViTForImageClassification(settings)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"

    def refused(reason: str) -> None:
        with pytest.raises(RunError, match=reason) as error:
            open_model(str(tmp_path), section="start")
        assert str(error.value).startswith(f"start.model: {tmp_path}: ")
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)

    save_file(trained, file)
    refused(r"of another model: 56 of 56 tensors .*, and 80 are unknown, such as blocks\.0\.a")
    state = model.state_dict()
    save_file({n: v for n, v in state.items() if "mlp.fc2.bias" not in n}, file)
    refused(r"3 of 56 tensors are missing or of another size, such as vit\.\S+bias$")
    save_file({**state, "classifier.weight": torch.zeros(9, 48)}, file)
    refused(r"1 of 56 tensors are missing or of another size, such as classifier\.weight$")
    file.write_bytes(file.read_bytes()[:-100])
    refused("not fully covered")
    file.unlink()
    refused("no file named")
    torch.save({**state, "more": Dangerous()}, tmp_path / "pytorch_model.bin")
    refused("could run any code")
    assert "code was run" not in capfd.readouterr().out
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert open_model(str(tmp_path)).state_dict().keys() == state.keys()
    missing = transformers.ViTModel(settings, add_pooling_layer=False)
    missing.save_pretrained(tmp_path)  # without a pooler, on which no answer depends
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["architectures"] == ["ViTModel"]
    (tmp_path / "pytorch_model.bin").unlink()
    assert derived(open_model(str(tmp_path)), "vit")[1]["max_abs_difference"] < 1e-4


def test_what_is_no_vision_transformer() -> None:
    with pytest.raises(RunError, match=r"no converter for .* there are some for timm\.VisionTr"):
        open_model("resnet18", random_weights=True)
    with pytest.raises(RunError, match=r"EfficientVitLarge does not convert: the vocabulary lacks"):
        open_model("efficientvit_l1", random_weights=True)


def test_whose_weights_look_like() -> None:
    for name in ("deit3_small_patch16_224", "vit_small_patch14_dinov2", VIT):
        state = timm.create_model(name, depth=1).state_dict()
        assert looks_like(state) in (name, "vit_small_patch16_dinov2")
    assert looks_like({}) == ""
