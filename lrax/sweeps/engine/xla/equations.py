"""The equations of a traced function, including those of loops and branches."""

from collections.abc import Iterator

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """The equations of a jaxpr and of all jaxprs inside it, such as the bodies of loops."""
    for equation in jaxpr.eqns:
        yield equation
        # An inner jaxpr is a parameter of its equation. A loop has its body there; a cond has a
        # tuple of branches.
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(item, (Jaxpr, ClosedJaxpr)):
                    yield from equations(item.jaxpr if isinstance(item, ClosedJaxpr) else item)
