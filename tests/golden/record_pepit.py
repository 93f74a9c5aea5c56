"""PEPit's worst cases of gradient descent: the largest gap that any loss of a class can have.

`name` is the rule of the rates, `keywords` the class of losses and the steps, `rates` the rates of
the steps. `gap` is the largest f(x_n) - f(x*) from a distance of 1; for "polyak" it is the largest
squared distance after one step, if that step has the rate in `rates`. Needs PEPit with a solver.
"""

import importlib.metadata
import warnings

import numpy as np

SMOOTH = 2.0  # the smoothness, not 1, so that its powers count


def silver(steps):
    times = [(k & -k).bit_length() - 1 for k in range(1, steps + 1)]
    return [(1 + (1 + np.sqrt(2)) ** (time - 1)) / SMOOTH for time in times]


def chebyshev(steps, mu):
    # Small steps first: the solver is more exact so.
    roots = -np.cos((2 * np.arange(1, steps + 1) - 1) * np.pi / (2 * steps))
    return list(2 / (SMOOTH + mu - (SMOOTH - mu) * roots))


def worst(rates, mu, quadratic=False, polyak=False):
    from PEPit import PEP, functions

    problem = PEP()
    kind = "SmoothStronglyConvexQuadraticFunction" if quadratic else "SmoothStronglyConvexFunction"
    loss = problem.declare_function(getattr(functions, kind), L=SMOOTH, mu=mu)
    best = loss.stationary_point()
    x = problem.set_initial_point()
    problem.set_initial_condition((x - best) ** 2 <= 1)
    for rate in rates:
        gradient, value = loss.oracle(x)
        if polyak:
            problem.add_constraint(rate * gradient**2 == 2 * (value - loss(best)))
        x = x - rate * gradient
    problem.set_performance_metric((x - best) ** 2 if polyak else loss(x) - loss(best))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the solver warns where it is inaccurate
        return problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def settings():
    for steps in (1, 2, 3, 7):
        for mu in (0.0, 0.2):
            yield "constant", steps, mu, [1 / SMOOTH] * steps, {}
        # The solver does not reach the smaller gaps of more steps.
        for mu in (0.2, 0.8) if steps < 3 else (0.2,):
            yield "optimal", steps, mu, [2 / (SMOOTH + mu)] * steps, {}
            if steps < 7:
                yield "chebyshev", steps, mu, chebyshev(steps, mu), {"quadratic": True}
        if steps != 2:
            yield "silver", steps, 0.0, silver(steps), {}
    for rate in (0.6, 2 / 2.2, 2.0, 4.0):
        yield "polyak", 1, 0.2, [rate], {"polyak": True}


def record():
    recorded = [
        {
            "name": name,
            "keywords": {"smoothness": SMOOTH, "mu": mu, "steps": steps},
            "gap": float(worst(rates, mu, **options)),
            "rates": [float(rate) for rate in rates],
        }
        for name, steps, mu, rates, options in settings()
    ]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("PEPit", "clarabel")]
    return ", ".join(versions), recorded
