"""Records what the installed frameworks do: `python -m tests.golden [torch timm ...]`, from the
repository's root.

Of the frameworks named, all by default, it needs: torch (for the first four), transformers, timm,
keras, optax. The rules that follow feedback are recorded if they are named: plateau (torch, keras),
greedy (transformers), kl (rl-games, skrl, rsl-rl-lib), polyak (sps, pytorch_optimizer), spikes (see there). So are
the worst cases of gradient descent, pepit (PEPit).
"""

import importlib
import json
import platform
import sys

from . import FOLDER, FRAMEWORKS


def lines(setting):
    """A setting as JSON text: what it is on the first line, each list of numbers on a line of its own."""
    lists = ("counts", "losses", "norms", "rates", "momentum")
    rows = [json.dumps({key: value for key, value in setting.items() if key not in lists})[:-1]]
    rows += [f"{json.dumps(key)}: {json.dumps(setting[key])}" for key in lists if key in setting]
    return ",\n  ".join(rows) + "}"


def write(framework):
    version, settings = importlib.import_module(f".record_{framework}", __package__).record()
    head = {
        "framework": framework,
        "version": version,
        "python": platform.python_version(),
        "made_by": f"python -m tests.golden {framework}",
    }
    text = (
        json.dumps(head)[:-1] + ',\n"settings": [\n' + ",\n".join(map(lines, settings)) + "\n]}\n"
    )
    json.loads(text)
    (FOLDER / f"{framework}.json").write_text(text)
    print(f"{framework} {version}: {len(settings)} settings, {len(text) // 1000} kB")


if __name__ == "__main__":
    for name in sys.argv[1:] or FRAMEWORKS:
        write(name)
