"""What commands share: interruptions, progress bars, labels, the closing table."""

import contextlib
import json
import math
import re
import sys
import threading

from fourierreg.errors import InputError

COMPILING_SECONDS = 2  # after which it is said that code is being compiled

INFERRED_FROM = {
    "predictive": "held-out voxels",
    "marginal": "the marginal posterior",
    "joint": "the joint posterior",
}

_interruptions: list[int] = []  # received signals; compiled code may swallow their exception


def interrupt(signum, frame):
    """Signal handler: stop here or, if the exception is swallowed, at the next iteration."""
    _interruptions.append(signum)
    raise KeyboardInterrupt


def forget_interruptions():
    """Reset the handler before a command runs."""
    _interruptions.clear()


def _stop_if_interrupted():
    if _interruptions:
        raise KeyboardInterrupt


def without_nan(value):
    """A report with None for NaN, which JSON lacks (Dice of a label that is missing)."""
    if isinstance(value, dict):
        return {name: without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def alpha_rows(result):
    """Rows of the closing table about α and the noise."""
    rows = [("α", f"{result.alpha:.3g}")]
    interval = result.alpha_interval
    if interval is not None:
        rows.append(("95 % interval", f"{interval[0]:.3g} to {interval[1]:.3g}"))
    if result.posterior is not None:
        rows.append(("inferred from", INFERRED_FROM[result.posterior]))
    return [
        *rows,
        ("smoothing length", f"{result.smoothing_length:.1f} mm"),
        ("noise σ, decimation ρ", f"{result.sigma:.3g}, {result.decimation:.2g}")
        if result.sigma is not None
        else ("similarity, weight γ", f"{result.similarity}, {result.weight:.3g}"),
    ]


def in_options(text):
    """A sentence with `name='value'` of Python as `--name value` of the command line."""
    text = re.sub(r"\b([a-z_]+[a-z])='([\w-]+)'", lambda m: f"--{_dashed(m[1])} {m[2]}", text)
    return re.sub(r"\braise (max_iterations)\b", lambda m: f"raise --{_dashed(m[1])}", text)


def _dashed(name):
    return name.replace("_", "-")


def finish(options, rows, report, folder, result):
    """Print a table or JSON; the exit code is 1 for a run that did not converge."""
    jacobian = report["jacobian"]
    rows = [
        *rows,
        ("smallest Jacobian, folds", f"{jacobian['min']:.2f}, {jacobian['folds']}"),
        ("time", f"{report['seconds']:.0f} s, {report['iterations']} iterations"),
        *([("warning", in_options(w)) for w in result.warnings] or [("status", result.status)]),
        ("written to", str(folder)),
    ]
    if options.json:
        print(json.dumps(report, indent=2))
    elif not options.quiet:
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:{width}}  {value}" for name, value in rows))
    return 0 if result.converged and not result.warnings else 1


def say_written(options, path):
    """Say where a single file was written."""
    if options.json:
        print(json.dumps({"output": str(path)}))
    elif not options.quiet:
        print(f"written to {path}")


class Progress:
    """A progress bar updated by the callback of the optimizer; appears after two seconds.

    Where the first iteration waits for code to be compiled, a line says so.
    """

    def __init__(self, doing, options):
        self.doing, self.disable = doing, options.quiet or options.json
        self.timer = None
        self.stack = contextlib.ExitStack()

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
        if not self.disable:
            from fourierreg.backend.compilation import listening

            self.stack.enter_context(listening(self._compiling))
        return self

    def _compiling(self):
        if self.timer is None and not self.bar.n:
            self.timer = threading.Timer(COMPILING_SECONDS, self._say_so)
            self.timer.daemon = True
            self.timer.start()

    def _say_so(self):
        from fourierreg.backend import get_backend
        from fourierreg.backend.compilation import cache_folders

        folders = ", ".join(map(str, cache_folders(get_backend())))
        self.bar.write(
            f"compiling, once: kept in {folders} (`fourierreg warm-up` does it beforehand)",
            file=sys.stderr,
        )

    def __call__(self, record):
        _stop_if_interrupted()
        if self.timer is not None:
            self.timer.cancel()
        size = "×".join(map(str, record.shape))
        self.bar.set_postfix_str(
            f"α {record.alpha:.3g}, grid {size}, energy {record.prior + record.likelihood:.4g}",
            refresh=False,
        )
        self.bar.update()

    def __exit__(self, *error):
        self.stack.close()
        if self.timer is not None:
            self.timer.cancel()
        self.bar.close()


class Count:
    """A progress bar over a known number of items, with the remaining time."""

    def __init__(self, doing, unit, options):
        self.doing, self.unit = doing, unit
        self.disable = options.quiet or options.json
        self.bar = None

    def __enter__(self):
        return self

    def __call__(self, done, total):
        _stop_if_interrupted()
        from tqdm import tqdm

        if self.bar is None:  # items of an earlier run count as done, but not for the speed
            self.bar = tqdm(
                desc=self.doing,
                total=total,
                initial=max(done - 1, 0),
                unit=f" {self.unit}",
                disable=self.disable,
                leave=False,
                file=sys.stderr,
            )
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()


def refuse_labels_of_label_run(options):
    """Refuse label options for the folder of a label run, whose table has the Dice."""

    for name in ("source_labels", "target_labels", "structures"):
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}: {options.directory} holds many pairs, whose Dice is in its table; "
                "leave it out (labels and structures are given to `fourierreg label`)"
            )


def read_label_pair(options):
    """Both label maps, or None; one without the other is an error."""
    from fourierreg.data.nifti import read_labels

    given = options.source_labels, options.target_labels
    if given == (None, None):
        return None
    if None in given:
        raise InputError("--source-labels, --target-labels: expected both or neither")
    return read_labels(given[0], "--source-labels"), read_labels(given[1], "--target-labels")


def read_affine_of(path, name, moving, fixed):
    """Affine transform of a scan in a file, or None; `name` is the option that named it."""
    if path is None:
        return None
    from pathlib import Path

    from fourierreg.data.affines import read_affine

    if not Path(path).is_file():
        raise InputError(f"{name}: no file {path}; give the NAME_affine.mat of `prepare`")
    return read_affine(path, moving, fixed)


def write_run(folder, result, source, target, files, parameters, options, extra):
    """Write the output folder of a run on two images; returns its report.

    Parameters
    ----------
    folder : Path
    result : Registration
    source, target : nibabel images
    files : dict
        Path of every input by name.
    parameters : dict
        Keywords that repeat the run from Python.
    options : argparse.Namespace
    extra : dict
        Further entries of the report.
    """
    from fourierreg.image.geometry import Geometry, resample_onto
    from fourierreg.results import folder as output
    from fourierreg.results.record import input_record, result_record

    inputs = {name: input_record(path) for name, path in files.items()}
    for name, scale in zip(("source", "target"), result.scales, strict=True):
        inputs[name]["divided_by"] = scale
    report = {**result_record(result, inputs, parameters, options.arguments), **extra}
    moved = resample_onto(source.get_fdata(), Geometry.of(source), result.geometry)
    images = moved / result.scales[0], target.get_fdata() / result.scales[1]
    output.write_results(folder, result, *images, report)
    return report
