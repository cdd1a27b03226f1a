"""Defaults of `build_network` and `train`, changed one at a time on the same data and epochs.

    python benchmarks/network_choices.py --data WORK/training --pairs 4000

DATA is a bull-eye data set (`bullseye_network.py` makes one). The score is the mean squared error
in ln α on the validation split. Resumable.
"""

import argparse
import tempfile
from pathlib import Path

import tables

import fourierreg
from fourierreg.simulation.bullseye_folder import HEADER, MANIFEST

TABLE = "network_choices.csv"
CHOICES = {
    "default": {},
    "decaying rate": {"decay_epochs": "epochs"},
    "loss on alpha": {"output": "alpha"},
    "separate streams": {"shared_streams": False},
    "PReLU": {"activation": "prelu"},
    "no augmentation": {"augment": False},
    "4 filters": {"filters": 4},
    "16 filters": {"filters": 16},
    "resnet3d": {"architecture": "resnet3d"},
    "vgg3d": {"architecture": "vgg3d"},
}


def first_pairs(data, count, folder):
    """Make a data set of the first pairs of another one."""
    lines = (data / MANIFEST).read_text().splitlines()[: count + 1]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")
    (folder / HEADER).write_text((data / HEADER).read_text())
    (folder / "pairs").symlink_to((data / "pairs").resolve())
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    options = parser.parse_args()
    for name in options.choices:
        key = {"choice": name, "pairs": options.pairs, "epochs": options.epochs}
        if tables.has(TABLE, **key):
            continue
        choice = {k: options.epochs if v == "epochs" else v for k, v in CHOICES[name].items()}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            trained = fourierreg.train(
                first_pairs(Path(options.data), options.pairs, folder),
                folder / "model.keras",
                epochs=options.epochs,
                **choice,
            )
        scores = trained.card["scores"]["validation"]["all"]
        row = {
            **key,
            "mse": f"{scores['mse']:.4f}",
            "median_absolute_error": f"{scores['median_absolute_error']:.4f}",
            "mse_of_constant": f"{scores['mse_of_constant']:.4f}",
        }
        tables.append(TABLE, row)
        print(row, flush=True)


if __name__ == "__main__":
    main()
