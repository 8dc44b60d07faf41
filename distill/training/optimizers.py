"""Optimizers by name, built for the weights that they move, with a learning rate and weight decay of their own for some of them."""

from collections.abc import Callable, Sequence
from typing import Any, assert_never

import keras
from keras import ops

from distill.config.optimizer import Adam, AdamW, Optimizer, Sgd
from distill.training.rate import Rate

Multiplied = Sequence[tuple[Any, float, float]]  # a variable, by what its learning rate is multiplied, and by what its weight decay


class Multiplying:
    """What an optimizer becomes whose learning rate and weight decay differ by variable. A decay step is rate times decay, so both count there."""

    factors: Callable[[Any], tuple[float, float]]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient, variable, learning_rate * self.factors(variable)[0])  # type: ignore[misc]

    def _apply_weight_decay(self: Any, variables: Sequence[Any]) -> None:
        for variable in variables if self.weight_decay is not None else ():
            if self._use_weight_decay(variable):
                rate, decay = self.factors(variable)
                decayed = ops.convert_to_tensor(variable) * ops.cast(self.weight_decay * decay, variable.dtype)
                self.assign_sub(variable, decayed * ops.cast(self.learning_rate * rate, variable.dtype))


class MultiplyingSgd(Multiplying, keras.optimizers.SGD):
    """SGD as `Multiplying` says."""


class MultiplyingAdam(Multiplying, keras.optimizers.Adam):
    """Adam as `Multiplying` says."""


class MultiplyingAdamW(Multiplying, keras.optimizers.AdamW):
    """AdamW as `Multiplying` says."""


def build_optimizer(optimizer: Optimizer, rate: Rate, variables: list[Any], precision: str, multiplied: Multiplied = ()) -> Any:
    """Returns the optimizer, built for the variables. Weight decay leaves biases, norms and slopes alone; float16 gets a moving loss scale.

    Args:
        variables: all that it moves.
        precision: of the student.
        multiplied: those of them whose learning rate and weight decay are multiplied.
    """
    decay = optimizer.weight_decay or None
    made: Any
    if isinstance(optimizer, Sgd):
        momentum, kind = optimizer.momentum or 0.0, MultiplyingSgd if multiplied else keras.optimizers.SGD
        made = kind(rate, momentum=momentum, nesterov=optimizer.nesterov and momentum > 0, weight_decay=decay, **_shared(optimizer))
    elif isinstance(optimizer, Adam):
        made = (MultiplyingAdam if multiplied else keras.optimizers.Adam)(rate, **_shared(optimizer))
    elif isinstance(optimizer, AdamW):
        made = (MultiplyingAdamW if multiplied else keras.optimizers.AdamW)(rate, weight_decay=optimizer.weight_decay, **_shared(optimizer))
    else:
        assert_never(optimizer)
    if decay:
        made.exclude_from_weight_decay(var_list=[each for each in variables if len(each.shape) < 2 or each.name == "alpha"])
    if multiplied:
        table = {made._var_key(variable): (by_rate, by_decay) for variable, by_rate, by_decay in multiplied}
        made.factors = lambda variable: table.get(made._var_key(variable), (1.0, 1.0))
    rate.factor = made.add_variable(shape=(), initializer="ones", dtype="float32", name="plateau_factor")
    whole = keras.optimizers.LossScaleOptimizer(made) if precision == "mixed_float16" else made
    whole.build(variables)
    if made.use_ema:  # Keras' averages begin as zeros, which stay where float16 makes no update; the first update takes their place
        for average, variable in zip(made._model_variables_moving_average, variables, strict=True):
            average.assign(variable)
    return whole


def _shared(optimizer: Optimizer) -> dict[str, Any]:
    """What all optimizers of Keras take."""
    return {
        "global_clipnorm": optimizer.clip_norm,
        "clipvalue": optimizer.clip_value,
        "gradient_accumulation_steps": optimizer.accumulate if optimizer.accumulate > 1 else None,
        "use_ema": optimizer.ema is not None,
        # Keras averages at each batch, ours counts updates: as many batches as one takes give momentum ** (1 / batches) ** batches = momentum
        "ema_momentum": optimizer.ema ** (1 / optimizer.accumulate) if optimizer.ema else 0.99,
    }


def last_rate(rate: Rate, optimizer: Any) -> float:
    """Returns the learning rate of the last update; before the first one, that of step 0."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    step = inner.iterations * (inner.gradient_accumulation_steps or 1) - 1  # iterations are updates; a rate goes by batches
    return float(ops.convert_to_numpy(rate(ops.maximum(step, 0))))
