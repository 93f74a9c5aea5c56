"""The one table of calls: a valid call of every public function, class and method.

`test_arguments.py` replaces one argument after the other by a bad value. A new public name needs a
row here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import cases
import equinox
import jax
import numpy as np
import optax
import problems
from flax import linen, nnx
from jax import numpy as jnp

import lrax

Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """A valid call of a public function. Both parts are functions, so that rows cost nothing."""

    name: str
    function: Callable[[], Callable[..., Any]]
    arguments: Callable[[], Arguments]
    slow: bool = False  # whether the valid call compiles a program

    @property
    def parameters(self) -> list[str]:
        """What can be replaced: every parameter, and every name that the row itself gives."""
        named = [
            name
            for name, parameter in inspect.signature(self.function()).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        return list(dict.fromkeys([*named, *self.arguments()]))

    def __call__(self, **changed: Any) -> Any:
        function = self.function()
        arguments = {**self.arguments(), **changed}
        parameters = inspect.signature(function).parameters.values()
        # In `multiply(*schedules)` the last one is replaced.
        several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        first = [arguments.pop(name) for name in self.before(several)] if several else []
        for name in several:
            valid, value = self.arguments()[name], arguments.pop(name)
            first += valid if value is valid or name not in changed else [*valid[:-1], value]
        return function(*first, **arguments)

    def before(self, several: list[str]) -> list[str]:
        """The parameters that come before `*several`."""
        names = list(inspect.signature(self.function()).parameters)
        return names[: names.index(several[0])]

    def __str__(self) -> str:
        return self.name


def call(name: str, /, slow: bool = False, **arguments: Any) -> Call:
    """A row for `lrax.<name>`, of arguments that are cheap to make."""
    return Call(name, lambda: found(name), lambda: dict(arguments), slow)


def made(name: str, arguments: Callable[[], Arguments], slow: bool = False) -> Call:
    """A row for `lrax.<name>` whose arguments are made when they are needed."""
    return Call(name, lambda: found(name), arguments, slow)


def method(name: str, owner: Callable[[], Any], /, slow: bool = False, **arguments: Any) -> Call:
    """A row for a method, of an object that is made when it is needed."""
    return Call(name, lambda: getattr(owner(), name.split(".")[-1]), lambda: dict(arguments), slow)


def found(name: str) -> Any:
    return functools.reduce(getattr, name.split("."), lrax)


def builder(case: cases.Case) -> Call:
    """A row for the builder of a schedule, from the table of schedules."""

    def arguments() -> Arguments:
        names = list(inspect.signature(getattr(lrax, case.builder)).parameters.values())
        built = cases._built(case.arguments)
        if names[0].kind is names[0].VAR_POSITIONAL:
            return {names[0].name: list(built)}
        given = {p.name: value for p, value in zip(names, built, strict=False)}
        return given | cases._built(case.keywords)

    return made(case.builder, arguments)


FIRST = {case.builder: case for case in reversed(cases.CASES)}


def decay() -> lrax.Schedule:
    return cases.DECAY.build()


@functools.cache
def task() -> lrax.Task:
    return problems.regression()


W = jnp.array([1.0, -2.0])


def parabola() -> Arguments:
    """The arguments of a probe of a loss."""
    loss = lambda params: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    return {"loss": loss, "params": W}


@functools.cache
def adam_state() -> Any:
    return optax.adam(0.1).update(W, optax.adam(0.1).init(W))[1]


def schedule_free_state() -> Arguments:
    return {"state": lrax.lr_free.schedule_free_sgd().init(W), "params": W}


@functools.cache
def result() -> lrax.SweepResult:
    """A sweep of two hyperparameters whose best point is inside the grid."""
    grid = {"learning_rate": [0.01, 0.1, 0.5, 3.0], "b1": [0.8, 0.9]}
    return lrax.sweep(
        task(), optax.adam, grid, steps=8, seeds=2, monitors=[lrax.monitors.grad_norm]
    )


@functools.cache
def step() -> Any:
    """An update, as a monitor sees it."""
    kept = []

    def keep(step):
        kept.append(step)
        return 0.0

    train = lrax.train(task(), lrax.scale_by_lr, steps=1, monitors=[keep])
    jax.eval_shape(train, 0.1, jax.random.key(0))
    numbers = kept[-1]._replace(key=None)
    return jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), numbers)


@functools.cache
def recorded_state() -> Any:
    """A state with records of one update."""
    optimizer = lrax.recorded(optax.sgd(0.1), [lrax.monitors.grad_norm], length=3)
    return optimizer.update(W, optimizer.init(W), W)[1]


@functools.cache
def range_tested() -> Any:
    return lrax.range_test(task(), optax.adam, start=1e-4, end=1.0, steps=30)


def evidence() -> lrax.Evidence:
    losses = np.linspace([[1.0], [1.0]], [[0.1], [0.9]], 8, axis=-1)
    rates = {"learning_rate": np.array([0.1, 0.2])}
    return lrax.Evidence(losses, losses, rates, {}, 8, 80, np.array([True, True]), look=0)


def doctor() -> Arguments:
    """Arguments of the doctor: a table of a run that is healthy."""
    steps = np.arange(40.0)
    table = {"step": steps, "loss": 1 + np.exp(-steps / 8), "val_loss": 1 + np.exp(-steps / 9)}
    return {"source": table, "rates": lrax.linear(0.1, 0.0, 40), "monitors": {"grad_norm": steps}}


@functools.cache
def structural() -> lrax.StructuralResult:
    return lrax.StructuralResult([{"width": 8}, {"width": 16}], [result(), result()])


def law_of_a_curve() -> Arguments:
    """Arguments of a fit: a curve of a constant rate."""
    losses = 1 + 0.3 * np.cumsum(np.full(12, 0.1)) ** -0.5
    return {"name": "annealing", "schedules": [np.full(12, 0.1)], "losses": [losses]}


@functools.cache
def fitted_law() -> Any:
    return lrax.theory.fit_law(**law_of_a_curve())


def stream() -> lrax.Stream:
    return lrax.Stream([{"x": np.ones(2)}, {"x": np.zeros(2)}])


def ask_tell() -> lrax.AskTell:
    return lrax.AskTell(task(), optax.adam, steps=2, size=2)


class Study:
    """A proposer of one point."""

    def ask(self):
        return 0.1

    def tell(self, trial, value=None, state=None, **_):
        pass


def descent(hyperparams, key):
    (rate,) = hyperparams.values()  # a bad grid may have another name
    return {"loss": rate * jax.random.normal(key) ** 2}


def trained(hyperparams: Any, key: Any) -> Any:
    """The function that `lrax.train` returns."""
    return lrax.train(task(), optax.adam, steps=2)(hyperparams, key)


def sweeping(**more: Any) -> Arguments:
    """Arguments of `lrax.sweep`, the same objects in each call, so that they compile once."""
    grid = {"learning_rate": [0.1]}
    return {"task": task(), "optimizer": optax.adam, "grid": grid, "steps": 2, **more}


def build(width):
    del width
    return task(), optax.adam


RATES = {"learning_rate": (1e-3, 1e-1)}
ROWS = [
    *map(builder, FIRST.values()),
    call("Horizon", steps=100, batch_size=2, dataset_size=64, tokens_per_step=32),
    Call("Horizon.__call__", lambda: lrax.Horizon(100).__call__, lambda: {"duration": "10%"}),
    method("Schedule.replace", decay, peak=0.2),
    method("Schedule.values", decay, steps=10),
    Call(
        "Schedule.from_dict",
        lambda: lrax.Schedule.from_dict,
        lambda: {"described": {"schedule": "constant", "arguments": {"value": 0.5}}},
    ),
    Call("Schedule.__call__", lambda: decay().__call__, lambda: {"count": 3}),
    made("stack", lambda: {"schedules": [decay(), decay()]}),
    # Rates in optimizers.
    call("scale_by_hyperball", learning_rate=0.1),
    call("scale_by_lr", learning_rate=0.1),
    call("scale_by_multipliers", multipliers={"w": 0.1, "b": 1.0}),
    made("get_lr", lambda: {"opt_state": lrax.scale_by_lr(0.1).init(jnp.zeros(2))}),
    made("set_lr", lambda: {"opt_state": lrax.scale_by_lr(0.1).init(jnp.zeros(2)), "rate": 0.2}),
    call("controllers.adgd", init_rate=0.1),
    call("controllers.auto_cooldown", steps=10),
    call("controllers.back_off"),
    call("controllers.barzilai_borwein", init_rate=0.1),
    call("controllers.clip_spikes"),
    call("controllers.cooldown_on", signal="stop", steps=10),
    call("controllers.critical"),
    call("controllers.greedy"),
    call("controllers.hypergradient", learning_rate=0.1, hyper_rate=0.02),
    call("controllers.kl", target=0.01),
    call("controllers.plateau"),
    call("controllers.polyak", growth=1.1),
    made("controllers.restore_after_spikes", lambda: {"optimizer": optax.adam(0.1)}),
    made("controllers.skip_spikes", lambda: {"optimizer": optax.adam(0.1)}),
    call("controllers.velocity"),
    # Learning-rate-free methods.
    call("lr_free.prodigy"),
    call("lr_free.dadapt_adam"),
    call("lr_free.dog"),
    call("lr_free.polynomial_average"),
    call("lr_free.momo"),
    call("lr_free.momo_adam"),
    call("lr_free.schedule_free_sgd"),
    call("lr_free.schedule_free_adamw"),
    made("lr_free.schedule_free_eval_params", schedule_free_state),
    made("RateRule", lambda: {"init": lambda params: (), "rate": lambda *_, **__: (0.1, ())}),
    # What is trained.
    made(
        "Task",
        lambda: {
            name: getattr(task(), name)
            for name in ("init", "loss", "batch", "evaluate", "stateful")
        },
    ),
    call("minibatches", arrays={"x": problems.X, "y": problems.Y}, size=8),
    call("Stream", source=[{"x": np.ones(2)}, {"x": np.zeros(2)}]),
    method("Stream.take", stream, n=1),
    method("Stream.ready", stream, n=1, timeout=5.0),
    made("every", lambda: {"n": 2, "function": lambda params: 0.0}),
    made("train", lambda: {"task": task(), "optimizer": optax.adam, "steps": 2}),
    Call(
        "train()",
        lambda: trained,
        lambda: {"hyperparams": 0.1, "key": jax.random.key(0)},
        slow=True,
    ),
    *(
        made(f"monitors.{name}", lambda: {"step": step()})
        for name in ("grad_norm", "learning_rate", "param_norm", "update_norm", "update_ratio")
    ),
    made(
        "recorded",
        lambda: {"optimizer": optax.sgd(0.1), "monitors": [lrax.monitors.grad_norm], "like": {}},
    ),
    made("history", lambda: {"opt_state": recorded_state()}),
    method("History.plot", lambda: lrax.history(recorded_state()), name="grad_norm"),
    # Grids and rules.
    call("log_grid", low=1e-3, high=1e-1, n=3),
    call("points", values={"learning_rate": [0.1, 0.2], "b1": [0.8, 0.9]}),
    call("random_points", bounds=RATES, n=3),
    call("sobol", bounds=RATES, n=4),
    call("Halving"),
    call("Median"),
    made("Forecast", lambda: {"rates": lrax.constant}),
    method("Forecast.looks", lambda: lrax.Forecast(lrax.constant), steps=100),
    method("Halving.looks", lrax.Halving, steps=100),
    method("Median.looks", lrax.Median, steps=100),
    call("PopulationBasedTraining"),
    call("FanOut"),
    call("Rollback"),
    # Sweeps.
    made("sweep", lambda: sweeping(steps=2), slow=True),
    made(
        "sweep_exchange",
        lambda: sweeping(every=1, exchange=lrax.PopulationBasedTraining()),
        slow=True,
    ),
    call(
        "sweep_function",
        slow=True,
        function=descent,
        grid={"learning_rate": [0.1, 0.2]},
        objective="loss",
    ),
    made(
        "sweep_over",
        lambda: {
            "structure": {"width": [1]},
            "build": build,
            "grid": {"learning_rate": [0.1]},
            "steps": 2,
        },
        slow=True,
    ),
    made(
        "confirm",
        lambda: {
            "task": task(),
            "optimizer": optax.adam,
            "result": result(),
            "seeds": 2,
            "top": 1,
        },
        slow=True,
    ),
    made("AskTell", lambda: {"task": task(), "optimizer": optax.adam, "steps": 2}),
    method("AskTell.evaluate", ask_tell, slow=True, points=[{"learning_rate": 0.1}]),
    Call(
        "AskTell.optimize",
        lambda: ask_tell().optimize,
        lambda: {
            "study": Study(),
            "space": lambda trial: {"learning_rate": trial},
            "trials": 1,
        },
        slow=True,
    ),
    # Finders and probes.
    call("suggest", rates=np.geomspace(1e-3, 1.0, 9), losses=np.array([9, 7, 5, 3, 1, 2, 4, 6, 8])),
    made("find", lambda: {"task": task(), "optimizer": optax.adam, "steps": 2}, slow=True),
    made("range_test", lambda: {"task": task(), "optimizer": optax.adam, "steps": 2}, slow=True),
    method("RangeTest.curves", range_tested),
    method("RangeTest.suggest", range_tested),
    method("RangeTest.plot", range_tested),
    made("probes.critical_rate", lambda: {**parabola(), "update": -W, "guess": 1.0}, slow=True),
    made("probes.sharpness", lambda: {**parabola(), "key": jax.random.key(0)}, slow=True),
    made("probes.directional_sharpness", lambda: parabola(), slow=True),
    made("probes.landscape", lambda: {**parabola(), "directions": W[None]}, slow=True),
    call("probes.max_stable_rate", sharpness=2.0),
    call("probes.noise_scale", micro_grads=np.eye(3), micro_batch=4),
    made("probes.critical_batch", lambda: {"noise": lrax.probes.noise_scale(np.eye(3), 4)}),
    made("probes.effective_rates", lambda: {"opt_state": adam_state(), "rate": 0.1}),
    made("probes.preconditioner", lambda: {"opt_state": adam_state()}),
    call("probes.smooth", losses=np.ones(4)),
    call("probes.diverged_at", smoothed=np.ones(4)),
    # Theory.
    call("theory.last_iterate_bound", rates=[0.1, 0.2, 0.1]),
    call("theory.best_base_rate", rates=[0.1, 0.2, 0.1]),
    call("theory.refined_schedule", grad_norms=[2.0, 1.0, 1.0]),
    call("theory.annealing_law", rates=[0.1, 0.2, 0.1], L0=2.6, A=0.5, alpha=0.4, C=0.4),
    call(
        "theory.multi_power_law",
        rates=[0.1, 0.2, 0.1],
        L0=2.6,
        A=0.6,
        alpha=0.45,
        B=400.0,
        C=2.0,
        beta=0.6,
        gamma=0.65,
    ),
    call(
        "theory.functional_law",
        rates=[0.1, 0.2, 0.1],
        L0=2.6,
        A=8.0,
        alpha=0.5,
        B=300.0,
        C=40.0,
        beta=2.0,
    ),
    call(
        "theory.functional_schedule",
        peak=0.5,
        steps=10,
        A=1.0,
        alpha=1.0,
        B=2.0,
        C=10.0,
        beta=2.0,
    ),
    made("theory.fit_law", law_of_a_curve),
    Call(
        "theory.fit_law().predict",
        lambda: fitted_law().predict,
        lambda: {"schedule": [0.1, 0.2, 0.1]},
    ),
    made(
        "theory.optimize_schedule",
        lambda: {"law_or_bound": lambda rates: rates.sum(), "start": [0.1, 0.2, 0.1], "steps": 3},
    ),
    made("theory.smoothness", lambda: parabola()),
    made("theory.strong_convexity", lambda: parabola()),
    call("theory.predicted_gap", rule="constant", steps=3, smoothness=2.0, distance=1.0, mu=0.1),
    call("theory.least_grad_norm", rates=[0.1, 0.2, 0.1], smoothness=2.0, gap=1.0),
    call("theory.chebyshev", mu=1.0, smoothness=10.0, steps=8),
    call("theory.silver", smoothness=10.0, steps=7),
    # Rules of scaling.
    *(
        call(f"scaling.{name}", **arguments)
        for name, arguments in {
            "linear": {"lr": 0.1, "batch": 64, "base_batch": 32},
            "sqrt": {"lr": 0.1, "batch": 64, "base_batch": 32},
            "adam_sde": {"lr": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-8, "batch": 64}
            | {"base_batch": 32},
            "ema": {"decay": 0.9, "batch": 64, "base_batch": 32},
            "noise_scale": {"max_lr": 0.1, "batch": 64, "noise_scale": 100},
            "surge": {"max_lr": 0.1, "batch": 64, "noise_scale": 100},
            "decay_timescale": {"lr": 0.1, "weight_decay": 0.1, "batch": 64}
            | {"dataset_size": 1000},
            "decay_forms": {"lr": 0.1, "weight_decay": 0.1},
            "decay_balance": {"lr": 0.1, "weight_decay": 0.1},
            "corrected_decay": {"learning_rate": 0.1, "weight_decay": 0.1, "peak": 0.1},
            "complete_p": {"width_mult": 4, "depth_mult": 2},
            "horizon": {"lr": 0.1, "tokens": 1e9, "base_tokens": 1e8, "exponent": -0.3},
            "Setting": {"width": 64, "depth": 4, "batch": 32, "tokens": 1e9},
            "groups": {"params": {"w": np.ones(2)}, "multipliers": {"": 0.1}},
            "layer_multipliers": {
                "params": {"w": np.ones(2)},
                "decay": 0.5,
                "layer_of": lambda path: len(path),
            },
            "mup_multipliers": {
                "base": {"w": np.ones((2, 2))},
                "target": {"w": np.ones((4, 4))},
            },
            "lora": {"full_rate": 0.1, "rank": 8},
            "muon_multipliers": {"params": {"w": np.ones((4, 2))}, "convention": "consistent_rms"}
            | {"rms": 0.2},
            "muon_rate": {"lr": 0.1, "shape": (4, 2), "from_": "original", "to": "spectral"},
            "spectral_condition": {
                "params": {"w": np.ones((4, 2))},
                "updates": {"w": np.ones((4, 2))},
                "axes": {"w": (0, 1)},
            },
            "table": {"multipliers": 0.5, "params": {"w": np.ones(2)}},
        }.items()
    ),
    made(
        "scaling.fit",
        lambda: {
            "results": [(lrax.scaling.Setting(width=w), 1 / w) for w in (64, 128, 256)],
            "priors": None,
        },
    ),
    made(
        "scaling.batch_ramp",
        lambda: {"schedule": decay(), "steps": 20, "batch": 8, "max_batch": 64},
    ),
    made(
        "scaling.transfer",
        lambda: {
            "hyperparams": {"lr": 0.1, "b1": 0.9},
            "from_": lrax.scaling.Setting(width=64, batch=32),
            "to": lrax.scaling.Setting(width=256, batch=64),
            "optimizer": "adam",
            "rules": "completed",
        },
    ),
    call(
        "scaling.matching_rate",
        slow=True,
        optimizer_a=optax.sgd,
        optimizer_b=optax.adam,
        params={"w": np.ones(2)},
        gradients={"w": np.ones((3, 2))},
        rate=0.1,
    ),
    made(
        "scaling.coord_check",
        lambda: {"make_task": lambda width: task(), "widths": [1, 2], "seeds": 1},
        slow=True,
    ),
    # Results.
    *(
        method(f"SweepResult.{name}", result, **arguments)
        for name, arguments in {
            "extend": {"name": "learning_rate", "edge": "high"},
            "zoom": {"name": "learning_rate"},
            "one_standard_error": {},
            "optimum": {},
            "paired": {},
            "rank_by": {"objective": "train_loss"},
            "sensitivity": {},
            "series": {},
            "shown": {"name": "b1", "point": 0},
            "value": {"name": "b1", "point": 0},
            "save": {"path": "saved.npz"},
            "to_pandas": {},
            "plot": {},
            "plot_curves": {},
            "plot_heatmap": {},
        }.items()
    ),
    Call("SweepResult.load", lambda: lrax.SweepResult.load, lambda: saved(result(), "result.npz")),
    Call("SweepResult.merge", lambda: result().merge, lambda: {"others": [result()]}),
    made("diagnose", doctor),
    method("StructuralResult.where", structural, width=8),
    method("StructuralResult.optima", structural, name="learning_rate"),
    method("StructuralResult.paired", structural),
    method("StructuralResult.rank_by", structural, objective="train_loss"),
    method("StructuralResult.to_pandas", structural),
    method("StructuralResult.save", structural, path="folder"),
    Call(
        "StructuralResult.load",
        lambda: lrax.StructuralResult.load,
        lambda: saved(structural(), "folder"),
    ),
    made("display.schedules", lambda: {"schedules": [decay(), decay()], "steps": 20}),
    # Ready-made tasks.
    call("tasks.diabetes"),
    call("tasks.digits"),
    made("tasks.from_equinox", lambda: adapted(lambda key: equinox.nn.Linear(3, 1, key=key))),
    made("tasks.from_linen", lambda: adapted(linen.Dense(1))),
    made("tasks.from_nnx", lambda: adapted(lambda rngs: nnx.Linear(3, 1, rngs=rngs))),
    call("tasks.char_lm", width=8, heads=2, layers=1, context=8, characters=1000),
]


def adapted(model: Any) -> Arguments:
    """Arguments of an adapter of models."""
    batch = lrax.minibatches({"inputs": problems.X, "targets": problems.Y}, size=8)
    loss = lambda outputs, targets: jnp.mean((outputs[..., 0] - targets) ** 2)
    return {"model": model, "loss": loss, "batch": batch}


def saved(value: Any, path: str) -> Arguments:
    value.save(path)
    return {"path": path}
