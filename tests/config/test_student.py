"""The table [student]: which options go together."""

import re

import pytest

from distill.config.files import build_run, dump_run
from distill.config.student import OURS
from distill.errors import DistillError
from distill.models.students import BACKBONES


def run(**student):
    stage = {"source": "images", "epochs": 1, "terms": [{"name": "softmax"}]}
    return build_run({"student": student, "data": {"images": "x", "size": [32, 32]}, "stage": [stage]}, [], "run.toml")


def test_options_that_came_later_are_left_out_where_they_are_not_used():
    assert not {"width", "stem_stride", "top", "projection", "head"} & set(re.findall(r"^(\w+) =", dump_run(run()), re.M))
    assert "stem_stride = 1\n" in dump_run(run(backbone="MobileNetV2", stem_stride=1))


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"backbone": "iresnet50", "stem_stride": 1}, 'student: stem_stride = 1 cannot be had with backbone "iresnet50": its first convolution has stride 1'),
        ({"backbone": "VGG16", "stem_stride": 1}, 'stem_stride = 1 cannot be had with backbone "VGG16": its first convolution has stride 1; leave it out'),
        ({"backbone": "ConvNeXtTiny", "stem_stride": 1}, "its first convolution cuts the image into patches of 4x4; leave it out"),
        ({"stem_stride": 2}, 'cannot be had with backbone "small_conv": each of its convolutions has stride 2; leave it out'),
        ({"backbone": "MobileNetV2", "stem_stride": 3}, "student.stem_stride: received 3, should be 1 or 2"),
        ({"backbone": "mobilefacenet", "top": "depthwise"}, "top = 'depthwise' cannot be had with backbone \"mobilefacenet\": it has the depthwise top"),
        ({"backbone": "iresnet18", "top": "depthwise"}, "its embedding layer sees all places of the last map; leave it out"),
        ({"backbone": "MobileNetV2", "top": "max"}, "student.top: received 'max', should be 'average' or 'depthwise'."),
        ({"head": "kept"}, 'student: head = "kept" takes rows of the class heads of an earlier run, but weights is not set; add weights = RUN or leave head'),
        ({"width": 1.0}, 'student: "width" belongs to backbone "ghostfacenet_v1", but backbone is "small_conv"; leave it out'),
        ({"backbone": "ghostfacenet_v1", "width": 0.0}, "student.width: received 0.0, should be greater than 0."),
    ],
)
def test_what_does_not_go_together_is_told_with_its_reason(student, message):
    with pytest.raises(DistillError, match=re.escape(message)):
        run(**student)


def test_our_own_backbones_are_known_to_run_files():
    assert list(OURS) == list(BACKBONES)
