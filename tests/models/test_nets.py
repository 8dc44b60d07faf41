"""Nets for faces: MobileFaceNet, GhostFaceNet and IResNet against the figures of their papers and public nets, counted by hand."""

import math

import keras
import numpy as np
import pytest

from distill.config.catalog import BACKBONES
from distill.config.student import Student
from distill.models.ghostfacenet import GHOSTNET, divisible
from distill.models.iresnet import BLOCKS
from distill.models.students import build_student


def net(backbone, embedding=512, side=112, **options):
    return build_student(Student(backbone=backbone, embedding=embedding, **options), (side, side, 3))


def trained(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_small_conv_has_the_parameters_of_its_widths():
    model = net("small_conv", 8, 48, widths=(12, 24, 32, 40))
    kernels = 9 * (3 * 12 + 12 * 24 + 24 * 32 + 32 * 40)
    norms = 4 * (12 + 24 + 32 + 40) + 4 * 40
    assert model.count_params() == kernels + norms + 40 * 8 + 8


@pytest.mark.parametrize(("side", "pooled"), [(112, 7), (48, 3)])
def test_mobilefacenet_follows_the_paper(side, pooled):
    model = net("mobilefacenet", 128, side)
    assert model.get_layer("pool").kernel.shape == (pooled, pooled, 512, 1)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 12  # 4 + 6 + 2 bottlenecks keep size and channels
    if side == 112:
        assert 0.9e6 < model.count_params() < 1.1e6  # the paper says 0.99 million


def ghostfacenet_parameters(width, pool, embedding):
    """Counted from the table: a kernel, four numbers of batch norm and, where it is active, one of PReLU for each channel."""
    count, before = 27 * divisible(16 * width) + 5 * divisible(16 * width), divisible(16 * width)

    def ghost(inputs, outputs, active):
        half = outputs // 2
        return half * inputs + 9 * half + 2 * half * (4 + active)

    for kernel, expansion, channels, excited, stride in GHOSTNET:
        expansion, channels, few = divisible(expansion * width), divisible(channels * width), divisible(divisible(expansion * width) / 4)
        count += ghost(before, expansion, 1) + ghost(expansion, channels, 0)
        count += (kernel**2 + 4) * expansion if stride > 1 else 0
        count += 2 * expansion * few + 2 * few + expansion if excited else 0  # two kernels, two biases, PReLU of the few
        count += (kernel**2 + 4) * before + before * channels + 4 * channels if stride > 1 or before != channels else 0
        before = channels
    last = divisible(512 * width)
    return count + before * last + 5 * last + (pool**2 + 4) * last + last * embedding + embedding


@pytest.mark.parametrize(("width", "stride", "expected", "paper"), [(1.3, 1, 4_086_764, 4.09e6), (1.3, 2, 4_064_852, 4.06e6), (1.0, 1, 2_511_696, None)])
def test_ghostfacenet_has_the_parameters_of_the_paper(width, stride, expected, paper):
    """Within .2 %. Theirs have a batch norm behind the embedding and no bias before it: 2,048 - 512 more."""
    model = net("ghostfacenet_v1", width=width, stem_stride=stride)
    assert model.count_params() == ghostfacenet_parameters(width, 7 if stride == 1 else 4, 512) == expected
    assert paper is None or abs(expected - paper) < 0.002 * paper
    assert model.get_layer("pool").kernel.shape == ((7, 7) if stride == 1 else (4, 4)) + (divisible(512 * width), 1)


def test_ghostfacenet_has_width_1_3_and_stride_1_unasked():
    assert net("ghostfacenet_v1", 128).count_params() == BACKBONES["ghostfacenet_v1"] == ghostfacenet_parameters(1.3, 7, 128)


IRESNETS = {"iresnet18": 24_025_600, "iresnet34": 34_139_328, "iresnet50": 43_590_848, "iresnet100": 65_156_160}  # PyTorch's count of the public nets


def iresnet_parameters(blocks):
    """Counted by hand: kernels, two numbers of batch norm and one of PReLU for each channel, the dense layer with its bias, batch norm behind it."""
    count, before = 27 * 64 + 3 * 64, 64
    for channels, number in zip((64, 128, 256, 512), blocks, strict=True):
        count += before * channels + 2 * channels  # the way past the first block
        for _ in range(number):
            count += 2 * before + 9 * before * channels + 3 * channels + 9 * channels**2 + 2 * channels
            before = channels
    return count + 2 * 512 + 512 * 7 * 7 * 512 + 512 + 2 * 512


def slow(names):
    return [pytest.param(name, marks=[] if name in ("iresnet18", "iresnet50") else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("backbone", slow(IRESNETS))
def test_iresnets_have_the_parameters_of_the_public_nets(backbone):
    """24.0, 34.1, 43.6 and 65.2 million, but for the batch norm behind the embedding."""
    assert iresnet_parameters(BLOCKS[backbone]) == IRESNETS[backbone]
    model = net(backbone)
    assert trained(model) == IRESNETS[backbone] - 2 * 512
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == sum(BLOCKS[backbone])
    assert model.get_layer("flat").output.shape == (None, 7 * 7 * 512)


@pytest.mark.parametrize("backbone", ["ghostfacenet_v1", "iresnet18"])
def test_nets_for_faces_load_without_our_code_and_differ_in_all_their_weights(tmp_path, backbone):
    model = net(backbone, 8, 32)
    model.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras", compile=False)
    assert all(type(layer).__module__.startswith("keras") for layer in again.layers)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model(images), again(images))
    kernels = [weight for weight in model.get_weights() if weight.ndim == 4]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


@pytest.mark.parametrize("backbone", ["MobileNetV2", "ResNet50V2", pytest.param("NASNetMobile", marks=pytest.mark.slow)])
def test_stock_nets_have_the_listed_parameters(backbone):
    assert net(backbone, 128).count_params() == BACKBONES[backbone]


@pytest.mark.parametrize("backbone", ["ghostfacenet_v1", "iresnet18"])
def test_layers_of_nets_for_faces_have_names_of_their_own(backbone):
    """So that patterns of a stage name blocks of them, whatever was built before."""
    one, other = ([layer.name for layer in net(backbone, 8, 32).layers] for _ in range(2))
    assert one == other and {"ghostfacenet_v1": "block12_down", "iresnet18": "stage4_block1_past_conv"}[backbone] in one
