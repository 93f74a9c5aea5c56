"""The names under which loggers write the columns that `diagnose` reads."""

import re
from collections.abc import Iterable

# The names of each quantity, the preferred one first, in the form that `plain` returns. They come
# from Hugging Face's trainer, Lightning, Keras, the examples of Weights & Biases and TensorBoard,
# nanoGPT, Megatron, levanter, and lrax's own results.
KNOWN = {
    "steps": (
        *("step", "steps", "global_step", "trainer_global_step", "train_step", "iteration"),
        *("iterations", "iter", "update", "updates", "count", "batch", "epoch"),
    ),
    "loss": (
        *("train_loss_step", "loss", "train_loss", "training_loss", "loss_train"),
        *("loss_training", "train_loss_epoch", "batch_loss", "train_batch_loss", "total_loss"),
        *("train_total_loss", "lm_loss", "train_lm_loss", "loss_step", "loss_epoch", "losses"),
        *("train_ce_loss", "train_cross_entropy", "nll", "train_nll"),
    ),
    "val_loss": (
        *("val_loss", "eval_loss", "valid_loss", "validation_loss", "test_loss", "dev_loss"),
        *("loss_val", "loss_eval", "loss_valid", "loss_validation", "loss_test"),
        *("evaluation_loss", "epoch_val_loss", "val_loss_epoch", "lm_loss_validation"),
        *("eval_eval_loss", "validation_epoch_loss", "val_total_loss", "val_nll"),
    ),
    "rates": (
        *("learning_rate", "lr", "rate", "rates", "train_learning_rate", "train_lr"),
        *("learning_rate_0", "lr_0", "optimizer_lr", "opt_lr", "optim_learning_rate", "optim_lr"),
        *("schedule_lr", "lr_group_0", "learning_rates", "current_lr", "epoch_learning_rate"),
    ),
    "grad_norm": (
        *("grad_norm", "gradient_norm", "global_grad_norm", "train_grad_norm", "grad_norm_total"),
        *("grad_total", "train_global_grad_norm", "train_gradient_norm", "global_gradient_norm"),
        *("total_grad_norm", "optim_total_grad_norm", "grad_2_0_norm_total", "grads_norm"),
    ),
    "update_norm": ("update_norm", "updates_norm", "train_update_norm", "global_update_norm"),
    "update_ratio": (
        *("update_ratio", "update_to_weight_ratio", "update_to_param_ratio", "relative_update"),
        *("train_update_ratio", "update_weight_ratio"),
    ),
    "param_norm": (
        *("param_norm", "params_norm", "parameter_norm", "weight_norm", "weights_norm"),
        *("train_param_norm", "global_param_norm", "params_total", "total_param_norm"),
    ),
    "stable_rate": ("stable_rate", "max_stable_rate", "train_stable_rate"),
}
# Counts that start again or stand still during a run. They count updates only if they ascend.
WITHIN = ("batch", "epoch")
MONITORS = ("grad_norm", "update_norm", "update_ratio", "param_norm", "stable_rate")

# Lightning's LearningRateMonitor names the rate after the optimizer, such as "lr-Adam". The rate of
# the first group of several is "lr-Adam/pg1".
_LIGHTNING = re.compile(r"lr_[a-z]+(_pg1)?$")


def plain(name: str) -> str:
    """A column's name in lower case, with underscores as separators: "Train/Loss" is "train_loss".

    Weights & Biases exports columns as "run - train/loss"; the name of the run is removed.
    """
    last = name.rpartition(" - ")[2]
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")


def recognised(columns: Iterable[str]) -> dict[str, str]:
    """The column of each quantity that has one, such as `{"loss": "train/loss"}`."""
    by_plain: dict[str, str] = {}
    for name in columns:
        by_plain.setdefault(plain(name), name)
    found = {}
    for quantity, names in KNOWN.items():
        column = next((by_plain[name] for name in names if name in by_plain), None)
        if column is None and quantity == "rates":
            column = next((by_plain[name] for name in by_plain if _LIGHTNING.match(name)), None)
        if column is not None:
            found[quantity] = column
    return found
