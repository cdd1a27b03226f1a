"""What commands share: options, the progress bar, the closing table."""

import json
import math
import os
import sys

from fourierreg.errors import InputError

_interruptions: list[int] = []  # signals that came; compiled code may swallow the exception of one


def interrupt(signum, frame):
    """Signal handler: stop here, or, where the exception is swallowed, at the next iteration."""
    _interruptions.append(signum)
    raise KeyboardInterrupt


def forget_interruptions():
    """Before a command runs."""
    _interruptions.clear()


def _stop_if_interrupted():
    if _interruptions:
        raise KeyboardInterrupt


def add_common_options(parser, backend=False):
    """--quiet, --json and, for commands that compute on it, --backend."""
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    parser.add_argument("--json", action="store_true", help="print result.json instead of a table")
    if backend:
        parser.add_argument("--backend", default="numpy", help="numpy (default) or cupy")


def without_nan(value):
    """A report with None for NaN, which JSON has none of (Dice of a label that is not there)."""
    if isinstance(value, dict):
        return {name: without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def alpha_rows(result):
    """Rows of the closing table on α and the noise."""
    rows = [("α", f"{result.alpha:.3g}")]
    interval = result.alpha_interval
    if interval is not None:
        rows.append(("95 % interval", f"{interval[0]:.3g} to {interval[1]:.3g}"))
    return [
        *rows,
        ("smoothing length", f"{result.smoothing_length:.1f} mm"),
        ("noise σ, decimation ρ", f"{result.sigma:.3g}, {result.decimation:.2g}")
        if result.sigma is not None
        else ("similarity, weight γ", f"{result.similarity}, {result.weight:.3g}"),
    ]


def finish(options, rows, report, folder, result):
    """Print a table or JSON; a run that did not converge says so and ends with 1."""
    jacobian = report["jacobian"]
    rows = [
        *rows,
        ("smallest Jacobian, folds", f"{jacobian['min']:.2f}, {jacobian['folds']}"),
        ("time", f"{report['seconds']:.0f} s, {report['iterations']} iterations"),
        ("status", result.status),
        ("written to", str(folder)),
    ]
    if options.json:
        print(json.dumps(report, indent=2))
    elif not options.quiet:
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:{width}}  {value}" for name, value in rows))
    return 0 if result.converged else 1


class Progress:
    """A progress bar fed by the optimiser's callback; appears after two seconds."""

    def __init__(self, doing, options):
        self.doing, self.disable = doing, options.quiet or options.json

    def __enter__(self):
        from tqdm import tqdm

        self.bar = tqdm(
            desc=self.doing,
            mininterval=0.5,
            unit=" it",
            delay=2,
            disable=self.disable,
            leave=False,
            file=sys.stderr,
        )
        return self

    def __call__(self, record):
        _stop_if_interrupted()
        size = "×".join(map(str, record.shape))
        self.bar.set_postfix_str(
            f"α {record.alpha:.3g}, grid {size}, energy {record.prior + record.likelihood:.4g}",
            refresh=False,
        )
        self.bar.update()

    def __exit__(self, *error):
        self.bar.close()


class Count:
    """A progress bar over a known number of things, with the time left; appears after two
    seconds."""

    def __init__(self, doing, unit, options):
        self.doing, self.unit = doing, unit
        self.disable = options.quiet or options.json
        self.bar = None

    def __enter__(self):
        return self

    def __call__(self, done, total):
        _stop_if_interrupted()
        from tqdm import tqdm

        if self.bar is None:  # what was finished before counts as done, not as work
            self.bar = tqdm(
                desc=self.doing,
                total=total,
                initial=done - 1,
                unit=f" {self.unit}",
                disable=self.disable,
                leave=False,
                file=sys.stderr,
            )
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()


def no_labels_of_a_table(options):
    """Refuse labels for a folder of many pairs, whose table has the Dice of its own."""

    for name in ("source_labels", "target_labels", "structures"):
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}: {options.directory} holds many pairs, whose Dice stands in its table; "
                "leave it out (labels and structures are given to `fourierreg label`)"
            )


def read_label_pair(options):
    """Both label maps, or None; one without the other is refused."""
    from fourierreg.data.nifti import read_labels

    given = options.source_labels, options.target_labels
    if given == (None, None):
        return None
    if None in given:
        raise InputError("--source-labels, --target-labels: expected both or neither")
    return read_labels(given[0], "--source-labels"), read_labels(given[1], "--target-labels")


def noise_of(text):
    """The value of --sigma: a number or "estimate"; None where not given."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def write_pair(folder, result, source, target, files, parameters, options, extra):
    """Write the folder of a run on two images; returns its report.

    Parameters
    ----------
    folder : Path
    result : Registration
    source, target : nibabel images
    files : dict
        Name to path of every input.
    parameters : dict
        Keywords that repeat the run from Python.
    options : argparse.Namespace
    extra : dict
        What else the report says.
    """
    from fourierreg.data.nifti import sha256
    from fourierreg.image.geometry import Geometry, resample_onto
    from fourierreg.results import folder as output

    inputs = {
        name: {"path": os.path.abspath(path), "sha256": sha256(path)}
        for name, path in files.items()
    }
    for name, scale in zip(("source", "target"), result.scales, strict=True):
        inputs[name]["divided_by"] = scale
    report = {**output.describe(result, inputs, parameters, options.arguments), **extra}
    moved = resample_onto(source.get_fdata(), Geometry.of(source), result.geometry)
    images = moved / result.scales[0], target.get_fdata() / result.scales[1]
    output.write(folder, result, *images, report)
    return report
