"""Frozen layers and layers with multipliers: which ones a pattern names, that frozen ones stay bit for bit, and what is refused."""

import keras
import numpy as np
import pytest

from distill.config.stage import ShardsStage
from distill.errors import DistillError
from distill.models.norms import settle_averages
from distill.training import stages
from distill.training.layers import all_trainable, find_layers
from distill.training.model import Training, build_parts
from distill.training.rehearsal import rehearse
from distill.training.run_folder import RunFolder
from distill.training.stages import open_stages
from distill.training.trainer import train
from tests.training.test_trainer import ADAM, ARCFACE, COSINE, Arrays, run_of, use

BACKBONE = {"conv1", "norm1", "conv2", "norm2", "pool_norm"}
JOINT = {"optimizer": ADAM, "terms": [COSINE, ARCFACE]}


@pytest.fixture(autouse=True)
def arrays(monkeypatch):
    monkeypatch.setattr(stages, "SOURCES", dict(stages.SOURCES))
    use()


def weights_of(model):
    """Returns the weights of each layer of a stage, batch norm's averages too."""
    return {each.name: [np.array(weight) for weight in each.layer.weights] for each in find_layers(model, 1, ShardsStage(terms=[COSINE])).layers}


def moved(before, after):
    """Returns the names of the layers in which a bit differs."""
    return {name for name in before if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))}


def loaded(run, folder):
    """Returns the model of the first stage with the weights of a run's checkpoint."""
    data = open_stages(run)
    parts = build_parts(run, data)
    _, arrays = RunFolder(folder).load()
    for name, variable in parts.variables().items():
        variable.assign(arrays[name])
    return Training(parts, data[0])


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [("backbone", {"embedding", "shards_6", "projection_12"}), (["conv*", "norm?", "head"], {"pool_norm", "embedding", "projection_12"})],
)
def test_frozen_layers_stay_bit_for_bit_and_the_others_learn(tmp_path, capsys, freeze, expected):
    """Weights, and the averages of batch norm. Saved students have no layer that is frozen."""
    run = run_of({**JOINT, "freeze": freeze}, student={"embedding": 8}, holdout={"by": "key", "fraction": 0.2})
    keras.utils.set_random_seed(run.seed)
    before = weights_of(Training(build_parts(run, open_stages(run)), open_stages(run)[0]))
    train(run, tmp_path)
    assert moved(before, weights_of(loaded(run, tmp_path))) == expected
    assert f"  frozen: {len(before) - len(expected)} of 8 layers, " in capsys.readouterr().err
    for saved in ("student.keras", "checkpoints/best.keras"):
        student = keras.models.load_model(tmp_path / saved, compile=False)
        assert all(layer.trainable for layer in student.layers) and len(student.trainable_weights) == 10


def test_a_stage_freezes_for_itself_alone(tmp_path, capsys):
    """The head learns first, then all layers, in a run that is broken off between the two and goes on."""

    class Broken(Arrays):
        broken = (1, DistillError("broken off"))

    run = run_of({**JOINT, "freeze": "all but head"}, {**JOINT, "optimizer": {"name": "sgd", "learning_rate": 0.1}})
    keras.utils.set_random_seed(run.seed)
    before = weights_of(Training(build_parts(run, open_stages(run)), open_stages(run)[0]))
    use({"shards": Broken})
    with pytest.raises(DistillError, match="broken off"):
        train(run, tmp_path)
    assert moved(before, weights_of(loaded(run, tmp_path))) == {"shards_6"}
    assert "  frozen: 6 of 7 layers, 996 of 1,068 weights\n" in capsys.readouterr().err
    use()
    train(run, tmp_path)
    assert moved(before, weights_of(loaded(run, tmp_path))) == {*BACKBONE, "embedding", "shards_6"}
    assert "frozen" not in capsys.readouterr().err


def nested():
    """A student with a model inside, whose layers Keras named by itself."""
    entry = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization(), keras.layers.Conv2D(2, 3)])
    signal = keras.layers.GlobalAveragePooling2D()(inner(entry))
    return keras.Model(entry, keras.layers.Dense(4, name="embedding")(signal), name="student")


class Around(keras.Model):
    """What a stage trains, as far as layers go."""

    def __init__(self, student):
        super().__init__()
        self.student = student


def found(student, **options):
    return find_layers(Around(student), 1, ShardsStage(terms=[COSINE], **options))


def test_names_reach_into_models_and_are_the_same_in_every_process():
    """What Keras numbers in one row for a process counts from the student's first layer."""
    for student in (nested(), nested()):
        assert [(each.name, each.part) for each in found(student).layers] == [
            ("conv2d", "backbone"),
            ("batch_normalization", "backbone"),
            ("conv2d_1", "backbone"),
            ("embedding", "embedding"),
        ]
    assert [each.name for each in found(nested(), freeze=["conv2d*"]).frozen] == ["conv2d", "conv2d_1"]
    assert [each.name for each in found(nested(), freeze="backbone").frozen] == ["conv2d", "batch_normalization", "conv2d_1"]


def test_a_frozen_norm_keeps_its_averages_where_others_are_settled():
    """One norm in a model inside the student is frozen, one beside it is not: (0, 2) has the mean 1."""
    frozen, free = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    student = keras.Sequential([keras.Input((1,)), keras.Sequential([keras.Input((1,)), frozen]), free])
    frozen.trainable = False
    settle_averages(student, iter([np.array([[0.0], [2.0]])]))
    assert float(frozen.moving_mean[0]) == 0.0 and float(frozen.moving_variance[0]) == 1.0
    assert float(free.moving_mean[0]) == pytest.approx(1 / (1 + 1e-3) ** 0.5)
    with all_trainable(student):
        assert frozen.trainable
    assert not frozen.trainable and free.trainable


def test_the_first_multiplier_of_a_layer_counts():
    """Weights and their multiplier, the frozen layer without: kernel and bias, gamma and beta."""
    several = [{"layers": "embedding", "learning_rate": 10.0}, {"layers": "conv*", "learning_rate": 0.5}, {"layers": "*", "learning_rate": 2.0}]
    layers = found(nested(), freeze=["conv2d_1"], multipliers=several)
    assert [(variable.name, rate, decay) for variable, rate, decay in layers.multiplied_variables()] == [
        ("kernel", 10.0, 1.0),
        ("bias", 10.0, 1.0),
        ("kernel", 0.5, 1.0),
        ("bias", 0.5, 1.0),
        ("gamma", 2.0, 1.0),
        ("beta", 2.0, 1.0),
    ]
    assert layers.in_words() == [
        "  frozen: 1 of 4 layers, 38 of 114 weights",
        '  multiplied: "embedding" (1 layer) learning rate x 10; "conv*" (2 layers) learning rate x 0.5; "*" (1 layer) learning rate x 2',
    ]


def test_multipliers_reach_the_optimizer(tmp_path, capsys):
    """With a rate of 1e-30 the head alone moves, whose rate is multiplied by 1e28."""
    optimizer = {"name": "sgd", "learning_rate": 1e-30, "weight_decay": 1e-3}
    multipliers = [{"layers": "head", "learning_rate": 1e28, "weight_decay": 10.0}]
    run = run_of({"optimizer": optimizer, "terms": [ARCFACE], "multipliers": multipliers, "freeze": ["*norm*", "embedding"]})
    keras.utils.set_random_seed(run.seed)
    before = weights_of(Training(build_parts(run, open_stages(run)), open_stages(run)[0]))
    train(run, tmp_path)
    assert moved(before, weights_of(loaded(run, tmp_path))) == {"shards_6"}
    assert '  multiplied: "head" (1 layer) learning rate x 1e+28, weight decay x 10' in capsys.readouterr().err


THERE = "This stage has: conv1, norm1, conv2, norm2, pool_norm, embedding"
WORDS = "Words for several: backbone, embedding, head, projection."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["conv1", "convolution*"]}, f'stage 2: freeze: no layer matches "convolution*". {THERE}, shards_6 (head). {WORDS}'),
        ({"terms": [COSINE], "freeze": ["head"]}, f'stage 2: freeze: no layer matches "head". {THERE}. {WORDS}'),
        (
            {"terms": [COSINE], "freeze": "all but head"},
            'stage 2: freeze ("all but head") leaves nothing to train: it freezes 6 of 6 layers with weights, which are: conv1,',
        ),
        ({"freeze": ["*"]}, 'stage 2: freeze ("*") leaves nothing to train: it freezes 7 of 7 layers'),
        ({"multipliers": [{"layers": "top", "learning_rate": 2.0}]}, f'stage 2: multipliers 1: no layer matches "top". {THERE}, shards_6 (head). {WORDS}'),
        (
            {"multipliers": [{"layers": "*", "learning_rate": 2.0}, {"layers": "head", "learning_rate": 3.0}]},
            'stage 2: multipliers 2: all layers that "head" matches have an earlier multiplier, and the first one counts. Put it first.',
        ),
        (
            {"freeze": "backbone", "multipliers": [{"layers": "conv?", "learning_rate": 2.0}]},
            'stage 2: multipliers 1: all layers that "conv?" matches are frozen by freeze, so nothing of them moves.',
        ),
    ],
)
def test_what_names_no_layer_or_leaves_none_is_refused_before_the_first_step(tmp_path, options, message):
    run = run_of({"terms": [COSINE]}, {**JOINT, **options})
    with pytest.raises(DistillError) as caught:
        train(run, tmp_path, quiet=True)
    assert message in str(caught.value)
    assert not (tmp_path / "history.csv").exists()


def test_a_dry_run_says_and_refuses_the_same():
    told = rehearse(run_of({**JOINT, "freeze": "backbone", "multipliers": [{"layers": "head", "weight_decay": 10.0}]})).in_words()
    assert "\nstage 1: frozen: 5 of 7 layers, " in told and '\nstage 1: multiplied: "head" (1 layer) weight decay x 10\n' in told
    with pytest.raises(DistillError, match='freeze: no layer matches "convolution"'):
        rehearse(run_of({**JOINT, "freeze": ["convolution"]}))
