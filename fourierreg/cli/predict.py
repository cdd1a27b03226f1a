"""`fourierreg predict`."""

import json

from fourierreg.cli.common import (
    Count,
    Progress,
    alpha_rows,
    finish,
    write_run,
)
from fourierreg.cli.options import COMMON, add_options, sigma_of
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser("predict", help="α from a network", description=run.__doc__)
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="3D NIfTI image")
    parser.add_argument("target", metavar="TARGET", nargs="?", help="3D NIfTI image")
    parser.add_argument("--pairs", metavar="PAIRS.csv", help="many pairs instead of one")
    parser.add_argument(
        "--model", default="brain-3d", help=".keras file, or a shipped model's name (brain-3d)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="folder of result.json and, with --refine, the registration; with --pairs a CSV table",
    )
    add_options(parser, "--sigma", default=None, help="noise σ that α is quoted with")
    parser.add_argument(
        "--refine",
        action="store_true",
        help="run the full estimate, which confirms or replaces the prediction",
    )
    add_options(parser, *COMMON, "--backend")
    parser.set_defaults(run=run)


def run(options):
    """Predict the regularization strength α of a pair of images, or of many, by a network."""
    from fourierreg.backend import set_backend
    from fourierreg.learning.pretrained import load_model

    set_backend(options.backend)
    single = options.source is not None and options.target is not None
    if single == (options.pairs is not None) or (options.pairs and options.source):
        raise InputError("SOURCE, TARGET, --pairs: expected two images, or a table of pairs")
    if options.refine and options.output is None:
        raise InputError("--output: expected a folder for the registration of --refine")
    if options.refine and options.pairs is not None:
        raise InputError("--refine: expected one pair; for many, `fourierreg label` estimates α")
    model = load_model(options.model)
    return (_predict_table if options.pairs is not None else _predict_pair)(options, model)


def _predict_pair(options, model):
    from fourierreg.data.nifti import read_image
    from fourierreg.learning.prediction import predict_alpha
    from fourierreg.results import folder as output

    source = read_image(options.source, "source")
    target = read_image(options.target, "target")
    sigma = sigma_of(options.sigma)
    if not options.refine:
        found = predict_alpha(model, source, target, sigma=sigma)
        if options.output is not None:
            _write(options, model, found)
        if options.json:
            print(json.dumps(_plain(found), indent=1))
        elif not options.quiet:
            print(f"α      {found.alpha:.3g}\nstatus {found.status}\ntime   {found.seconds:.2f} s")
            note = model.card.get("cross_validation", {}).get("note")
            if note:  # how it does on real pairs of unseen people
                print(f"note   {note}")
            if options.output is not None:
                print(f"written to {options.output}")
        return 0
    folder = output.make_output_folder(options.output)
    with output.claimed(folder):
        return _refine(options, model, source, target, folder)


def _write(options, model, found):
    """Write a prediction to ``result.json`` in the output folder."""
    from fourierreg.atomic import write_json
    from fourierreg.results import folder as output
    from fourierreg.results.record import RECORD, input_record, origin

    files = {"source": options.source, "target": options.target, "model": model.path}
    values = _plain(found)
    record = {
        **origin(options.arguments),
        "inputs": {name: input_record(path) for name, path in files.items()},
        "alpha": values.pop("alpha"),
        "alpha_interval_95": [values.pop("alpha_low"), values.pop("alpha_high")],
        **values,
    }
    folder = output.make_output_folder(options.output)
    if (folder / output.VELOCITY).exists():
        raise InputError(
            f"--output: {folder} has a registration, which is not of this prediction; choose "
            "another folder"
        )
    try:
        with output.claimed(folder):
            write_json(folder / RECORD, record)
    except OSError as error:
        raise output.disk_error(folder, error) from error


def _refine(options, model, source, target, folder):
    """Refine the prediction for a pair and write the folder of a run; returns the exit code."""
    from fourierreg.learning.prediction import predict_alpha

    sigma = sigma_of(options.sigma)
    with Progress("refining α", options) as progress:
        found = predict_alpha(model, source, target, sigma=sigma, refine=True, callback=progress)
    parameters = {**found.settings, "num_steps": found.registration.model.num_steps}
    extra = {
        "model": str(model.path.name),
        "predicted": found.predicted,
        "accepted": found.accepted,
        "prediction_status": found.status,
    }
    files = {"source": options.source, "target": options.target}
    report = write_run(
        folder, found.registration, source, target, files, parameters, options, extra
    )
    rows = [
        ("predicted α", f"{found.predicted:.3g}"),
        ("prediction", found.status),
        *alpha_rows(found.registration),
    ]
    return finish(options, rows, report, folder, found.registration)


def _predict_table(options, model):
    import sys
    from pathlib import Path

    from fourierreg.atomic import write_rows, write_table
    from fourierreg.data.manifest import read_pairs
    from fourierreg.learning.prediction import predict_pairs
    from fourierreg.results import folder as output

    pairs = read_pairs(options.pairs)
    if options.output is not None:
        output.make_output_folder(Path(options.output).parent)
    with Count("predicting", "pairs", options) as progress:
        found = predict_pairs(model, pairs, sigma=sigma_of(options.sigma), callback=progress)
    rows = []
    for pair, result in zip(pairs, found, strict=True):
        plain = (
            {"alpha": "", "status": " ".join(str(result).split())}
            if isinstance(result, Exception)
            else _plain(result)
        )
        rows.append({**pair._asdict(), **plain})
    if options.output is not None:
        try:
            write_table(options.output, rows)
        except OSError as error:
            raise output.disk_error(Path(options.output).parent, error) from error
    if options.json:
        print(json.dumps(rows, indent=1))
    elif options.output is None:
        write_rows(sys.stdout, rows)
    return 1 if any(isinstance(result, Exception) for result in found) else 0


def _plain(found):
    return {
        "alpha": found.alpha,
        "alpha_low": found.interval[0],
        "alpha_high": found.interval[1],
        "at_edge": found.at_edge,
        "novelty": found.novelty,
        "status": found.status,
        "seconds": round(found.seconds, 3),
    }
