"""The protocol of rules: how their functions are called, and the errors if a rule breaks it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

Rule = Any  # a `RateRule`
RuleState = Any

# How each function of a rule is called: the number of positional arguments, the names of keyword
# arguments, and the signature as error messages show it. `_unknown` stands for any argument of
# `update` that the rule does not know.
_CALLS: dict[str, tuple[int, tuple[str, ...], str]] = {
    "init": (1, (), "(params)"),
    "rate": (2, ("updates", "params", "_unknown"), "(count, state, *, updates, params, **extra)"),
    "first": (1, (), "(state)"),
}


class RuleError(TypeError):
    """A rule breaks the protocol, or was given a state or arguments that do not fit the rule."""


def require_takes(name: str, function: Callable[..., Any]) -> None:
    """Requires that a function can be called as the `init`, `rate` or `first` of a rule."""
    signature = _signature(function)
    if signature is None:
        return
    positional, keywords, words = _CALLS[name]
    # Bind `rate` partially: it may require further arguments of `update` as keywords.
    bind = signature.bind_partial if keywords else signature.bind
    try:
        bind(*range(positional), **dict.fromkeys(keywords))
    except TypeError:
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        unknown = keywords and inspect.Parameter.VAR_KEYWORD not in kinds
        lacks = ", without `**extra` for the arguments that it does not know" if unknown else ""
        raise TypeError(
            f"`{name}` must have the signature {words}, got {signature}{lacks}"
        ) from None


def require_no_lookalike(name: str, value: Any) -> None:
    """Refuses an object that has functions of a rule but is not a `RateRule`, and says why."""
    has = [part for part in _CALLS if callable(getattr(value, part, None))]
    # A callable that lacks `init` or `rate` is taken for a function of the count, which may have an
    # `init` of its own.
    if not has or (callable(value) and not {"init", "rate"} <= set(has)):
        return
    lacks = [f"`{part}`" for part in ("init", "rate") if part not in has]
    shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    if lacks:
        advice = f"lacks {' and '.join(lacks)}: write `lrax.RateRule(init, rate, first)`"
    else:
        functions = ", ".join(f"rule.{part}" for part in has)
        advice = f"is of another type: write `lrax.RateRule({functions})`"
    raise TypeError(f"`{name}` must be an `lrax.RateRule`, got {shown}, which {advice}")


def decide(
    rule: Rule, count: jax.Array, state: RuleState, arguments: Mapping[str, Any]
) -> tuple[Any, RuleState]:
    """The rate of a rule and its next state."""
    try:
        decided = rule.rate(count, state, **arguments)
    except RuleError:  # from a factor, if this rule is a product: its message names the factor
        raise
    except Exception as error:
        # A wrong argument or state can raise anything inside the rule. If one of them explains the
        # error, say so. Otherwise the error is the rule's own.
        words = _missing(rule, arguments) or _foreign_state(rule, state, arguments)
        if words is None:
            raise
        raise RuleError(words) from error
    if not isinstance(decided, (tuple, list)) or len(decided) != 2:
        raise RuleError(
            "`learning_rate` must be a rule whose `rate` returns the rate and the next state, got"
            f" {decided!r} from {rule!r}"
        )
    rate, state = decided
    require_numeric("rate is a number", rate)
    return rate, state


def _missing(rule: Rule, arguments: Mapping[str, Any]) -> str | None:
    """The message if `update` was not given a keyword that the rule requires, or None."""
    signature = _signature(rule.rate)
    for name, parameter in signature.parameters.items() if signature else ():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and required and name not in arguments:
            return (
                f"`{name}` must be given to `update`: {rule!r} needs it. Call"
                f" `optimizer.update(grads, state, params, {name}=...)`."
            )
    return None


def _foreign_state(rule: Rule, state: RuleState, arguments: Mapping[str, Any]) -> str | None:
    """The message if the state does not look like one that this rule's `init` returns, or None."""
    about = arguments.get("params")
    about = arguments.get("updates") if about is None else about
    made = jax.tree.map(described, jax.eval_shape(rule.init, about))
    given = jax.tree.map(described, state)
    if made == given:
        return None
    return (
        f"`state` must come from the rule of `learning_rate`, {rule!r}, whose state is {made},"
        f" got {given}"
    )


def require_numeric(words: str, leaf: Any) -> None:
    """Requires a number or an array from a rule.

    `words` completes the message "must be a rule whose ...".
    """
    # The dtype of an array is not checked, because a state may hold PRNG keys.
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float)):
        raise RuleError(f"`learning_rate` must be a rule whose {words}, got {leaf!r}")


def described(leaf: Any) -> str:
    """The dtype and the shape of a leaf of a rule's state, as errors show them."""
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a function written in C may have no readable signature
        return None
