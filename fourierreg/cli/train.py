"""`fourierreg train`."""

import json

from fourierreg.cli.common import Count
from fourierreg.cli.options import COMMON, add_options


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
    _add_network_options(parser)
    _add_training_options(parser)
    _add_augmentation_options(parser)
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def _add_network_options(parser):
    parser.add_argument(
        "--architecture", choices=["two-stream", "resnet3d", "vgg3d"], default="two-stream"
    )
    parser.add_argument("--filters", type=int, default=8, help="of the first block (default 8)")
    parser.add_argument("--activation", choices=["relu", "prelu"], default="relu")
    parser.add_argument(
        "--separate-streams",
        action="store_true",
        help="separate weights for source and target",
    )
    parser.add_argument(
        "--loss-on",
        choices=["log_alpha", "alpha"],
        default="log_alpha",
        help="target of the squared error (default log_alpha)",
    )
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument(
        "--initial",
        metavar="MODEL",
        help="initial weights: a .keras file or a shipped model",
    )


def _add_training_options(parser):
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument(
        "--decay-epochs",
        type=int,
        help="epochs over which it decays to a hundredth (default: constant)",
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1000, help="maximum (default 1000)")
    parser.add_argument(
        "--patience", type=int, default=50, help="epochs without improvement before stopping"
    )
    parser.add_argument(
        "--balanced",
        action="store_true",
        help="give each kind of pair (labeled, simulated) the same total weight",
    )
    parser.add_argument(
        "--keep",
        choices=["best", "last"],
        default="best",
        help="epoch whose weights are written (default: of the smallest validation loss)",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "mixed_float16", "mixed_bfloat16"],
        default="auto",
        help="auto: mixed_float16 on a GPU",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="reproducible weights for a seed"
    )
    add_options(
        parser,
        "--fractions",
        help="of pairs without a split, which are bull-eyes (default 0.7 0.15 0.15)",
    )
    parser.add_argument(
        "--license", "--licence", dest="licence", default="", help="of the data, for the model card"
    )
    add_options(parser, "--seed")


def _add_augmentation_options(parser):
    parser.add_argument("--no-augmentation", action="store_true", help="images as they are")
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.0,
        metavar="VOXELS",
        help="smooth both images of half the pairs by a Gaussian of up to this sd (default 0)",
    )
    parser.add_argument(
        "--contrast",
        type=float,
        default=0.0,
        metavar="C",
        help="raise both images to one random power between exp(-C) and exp(C) (default 0)",
    )
    parser.add_argument(
        "--exchange", action="store_true", help="exchange source and target of half the pairs"
    )


def run(options):
    """Train a network on pairs whose α is known or was estimated, and write it with a card.

    A training that was stopped resumes when the same command is given again; its checkpoint, best
    weights, log and curve are in a folder beside the model.
    """
    from pathlib import Path

    from fourierreg.learning.checkpoint import CURVE
    from fourierreg.results import folder as output
    from fourierreg.results.figures import save_training_figure

    target = Path(options.output)
    output.make_output_folder(target.parent)
    trained = _train(options, target)
    save_training_figure(trained.log, trained.folder / CURVE)
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
            f"{trained.path}, {options.keep} of {len(trained.log)} epochs; log and curve in "
            f"{trained.folder}"
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
            contrast=options.contrast,
            exchange=options.exchange,
            balanced=options.balanced,
            keep=options.keep,
            precision=options.precision,
            deterministic=options.deterministic,
            fractions=options.fractions,
            license=options.licence,
            seed=options.seed,
            callback=progress,
        )
