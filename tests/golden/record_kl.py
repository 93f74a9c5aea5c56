"""The schedulers that follow a KL divergence, of rl_games, skrl and RSL-RL, on random values.

`name` is the package, `keywords` are the arguments of its scheduler, `metrics` the divergences it
is given (null is NaN), `rates` the rate after each of them.
"""

import importlib.metadata
import math

import numpy as np

SETTINGS = 30  # of each package
BASE = 1e-3  # every optimizer's first rate, where no keyword says another


def rl_games(metrics, **keywords):
    from rl_games.common.schedulers import AdaptiveScheduler

    # Its limits are 1e-6 and 1e-2, and its factors 2 and 1.5.
    scheduler = AdaptiveScheduler(**keywords)
    rate = BASE
    for divergence in metrics:
        rate, _ = scheduler.update(rate, 0.0, 0, 0, divergence)
        yield rate


def skrl(metrics, **keywords):
    import torch
    from skrl.resources.schedulers.torch import KLAdaptiveLR

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=BASE)
    scheduler = KLAdaptiveLR(optimizer, **keywords)
    for divergence in metrics:
        scheduler.step(divergence)
        yield optimizer.param_groups[0]["lr"]


def rsl_rl(metrics, **keywords):
    """The rates of the optimizer's steps in `PPO.update`, which holds the schedule."""
    import torch
    from rsl_rl.algorithms import PPO
    from rsl_rl.storage import RolloutStorage
    from tensordict import TensorDict

    class Model(torch.nn.Module):
        """Actor and critic. A minibatch's old distribution is its divergence from the new one."""

        is_recurrent = False

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, observations, **unused):
            return self.weight * observations["x"]

        def get_output_log_prob(self, actions):
            return self.weight * actions

        def get_kl_divergence(self, old, new):
            return old[0]

        def update_normalization(self, observations):
            pass

        @property
        def output_distribution_params(self):
            return (self.weight.expand(2),)

        @property
        def output_entropy(self):
            return self.weight.expand(2)

    class Storage:
        zeros = torch.zeros(2, dtype=torch.float64)
        observations = TensorDict({"x": torch.ones(1, 2, dtype=torch.float64)}, batch_size=[1, 2])

        def mini_batch_generator(self, num_mini_batches, num_learning_epochs):
            assert num_mini_batches * num_learning_epochs == len(metrics)
            for divergence in metrics:
                yield RolloutStorage.Batch(
                    observations=self.observations[0],
                    actions=self.zeros,
                    values=self.zeros,
                    advantages=self.zeros,
                    returns=self.zeros,
                    old_actions_log_prob=self.zeros,
                    old_distribution_params=(self.zeros + divergence,),
                )

        def clear(self):
            pass

    rates = []
    ppo = PPO(
        Model(),
        Model(),
        Storage(),
        num_learning_epochs=5,
        num_mini_batches=len(metrics) // 5,
        schedule="adaptive",
        optimizer="sgd",
        **keywords,
    )
    ppo.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    ppo.update()
    return rates


def record():
    random = np.random.default_rng(2)
    recorded = []
    for drive in (rl_games, skrl, rsl_rl):
        for _ in range(SETTINGS):
            target = float(random.choice([0.008, 0.01, 0.02]))
            keywords = {"desired_kl" if drive is rsl_rl else "kl_threshold": target}
            if drive is skrl:
                keywords["min_lr"] = float(random.choice([1e-6, 1e-4, 5e-4]))
                keywords["max_lr"] = float(random.choice([1e-2, 2e-3]))
                keywords["lr_factor"] = float(random.choice([1.2, 1.5, 2.0]))
                keywords["kl_factor"] = float(random.choice([1.5, 2.0, 3.0]))
            walk = np.cumsum(random.normal(size=40)) * random.uniform(0.3, 1)
            metrics = [float(f"{divergence:.4g}") for divergence in 0.01 * np.exp(walk)]
            metrics[5], metrics[17] = 0.0, math.nan
            if drive is rsl_rl:
                # Its limits are 1e-5 and 1e-2. A first rate may be beyond them.
                keywords["learning_rate"] = float(f"{10 ** random.uniform(-5.5, -1.5):.3g}")
                # An estimate may be below 0, and at a threshold itself nothing changes.
                metrics[9], metrics[23], metrics[29] = -0.001, 2 * target, target / 2
            rates = [float(f"{rate:.14g}") for rate in drive(metrics, **keywords)]
            metrics[17] = None
            setting = {"name": drive.__name__, "keywords": keywords, "metrics": metrics}
            recorded.append(setting | {"rates": rates})
    packages = ("rl-games", "skrl", "rsl-rl-lib")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join(versions), recorded
