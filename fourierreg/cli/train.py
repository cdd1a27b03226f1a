"""`fourierreg train`."""

import json

from fourierreg.cli.common import Count, add_common_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train", help="train a network that predicts α", description=run.__doc__
    )
    parser.add_argument(
        "datasets",
        metavar="DATASET",
        nargs="+",
        help="folder of `label` or `simulate`, or of make_bullseye_dataset",
    )
    parser.add_argument("-o", "--output", required=True, metavar="MODEL.keras")
    parser.add_argument(
        "--architecture", choices=["two-stream", "resnet3d", "vgg3d"], default="two-stream"
    )
    parser.add_argument("--filters", type=int, default=8, help="of the first block (default 8)")
    parser.add_argument("--activation", choices=["relu", "prelu"], default="relu")
    parser.add_argument(
        "--separate-streams",
        action="store_true",
        help="source and target have weights of their own",
    )
    parser.add_argument(
        "--loss-on",
        choices=["log_alpha", "alpha"],
        default="log_alpha",
        help="what the squared error is of (default log_alpha)",
    )
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument(
        "--initial",
        metavar="MODEL",
        help="go on from the weights of this .keras file or shipped model, on these data",
    )
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument(
        "--decay-epochs", type=int, help="epochs over which it falls to a hundredth (constant)"
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1000, help="at most (default 1000)")
    parser.add_argument(
        "--patience", type=int, default=50, help="epochs without progress to stop after"
    )
    parser.add_argument(
        "--no-augmentation", action="store_true", help="no flips, swaps or smoothing"
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.0,
        metavar="VOXELS",
        help="smooth both images of half the pairs by up to so much (sd of a Gaussian; default 0)",
    )
    parser.add_argument(
        "--balanced",
        action="store_true",
        help="each kind of pair (labelled, simulated) counts as much as any other",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "mixed_float16", "mixed_bfloat16"],
        default="auto",
        help="auto: mixed_float16 on a GPU",
    )
    parser.add_argument("--deterministic", action="store_true", help="same weights from one seed")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=[0.70, 0.15, 0.15],
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="of pairs without a split, which are bull-eyes (default 0.7 0.15 0.15)",
    )
    parser.add_argument("--licence", default="", help="of the data, for the model's card")
    parser.add_argument("--seed", type=int, default=0)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Train a network on pairs whose α is known or was estimated, and write it with a card.

    A training that was stopped goes on where it was when the same command is given again; what it
    keeps for that (checkpoint, best weights, log, curve) lies in a folder beside the model.
    """
    from pathlib import Path

    from fourierreg.learning.checkpoint import CURVE
    from fourierreg.results import folder as output

    target = Path(options.output)
    output.prepare_folder(target.parent)
    trained = _train(options, target)
    output.training_figure(trained.log, trained.folder / CURVE)
    if options.json:
        print(json.dumps(trained.card, indent=1))
    elif not options.quiet:
        for name, scores in trained.card["scores"].items():
            for kind, found in scores.items():
                print(
                    f"{name}, {kind}: {found['pairs']} pairs, median error of ln α "
                    f"{found['median_absolute_error']:.3f}, mean square {found['mse']:.4f} "
                    f"(a constant: {found['mse_of_constant']:.4f})"
                )
        print(
            f"{trained.path}, best of {len(trained.log)} epochs; log and curve in {trained.folder}"
        )
    return 0


def _train(options, target):
    from fourierreg.learning.training import train

    with Count("training", "epochs", options) as progress:
        return train(
            options.datasets,
            target,
            architecture=options.architecture,
            filters=options.filters,
            activation=options.activation,
            shared_streams=not options.separate_streams,
            output=options.loss_on,
            weight_decay=options.weight_decay,
            initial=options.initial,
            learning_rate=options.learning_rate,
            decay_epochs=options.decay_epochs,
            batch_size=options.batch_size,
            epochs=options.epochs,
            patience=options.patience,
            augment=not options.no_augmentation,
            smoothing=options.smoothing,
            balanced=options.balanced,
            precision=options.precision,
            deterministic=options.deterministic,
            fractions=options.fractions,
            licence=options.licence,
            seed=options.seed,
            callback=progress,
        )
