"""The files that a sweep writes."""

from pathlib import Path

from ..sweeps.result import SweepResult


def write(result: SweepResult, name: Path) -> list[str]:
    """Writes the result, its picture and the table of its lanes.

    The picture and the table need packages that may be missing. If a package is missing, a line
    says so, and the other files are still written.

    Args:
      result: The result.
      name: The name of the files without a suffix.

    Returns:
      Lines that say what was written.
    """
    # `with_suffix` would take the end of a name such as lr0.1 for a suffix, and replace it.
    place = lambda suffix: name.with_name(name.name + suffix)
    result.save(place(".npz"))
    done, missing = [place(".npz")], []
    for suffix, save in (
        (".png", lambda path: result.plot().savefig(path, dpi=120)),
        (".csv", lambda path: result.to_pandas().to_csv(path, index=False)),
    ):
        try:
            save(place(suffix))
        except ImportError as error:
            missing.append(f"         no {place(suffix)}: {error}")
        else:
            done.append(place(suffix))
    return ["files:   " + ", ".join(map(str, sorted(done))), *missing]
