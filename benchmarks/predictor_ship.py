"""Write the network of `predictor.py --folds final` into the package, with what its card must say.

    python benchmarks/predictor_ship.py --work WORK

Its interval and the threshold of its novelty are those of five folds over people, because two
people outside of its training are too few for either.
"""

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
import tables
from predictor import LICENSE, NETWORK
from predictor_scores import ONE_QUALITY, SIMULATED, TABLE, UNSEEN_SCANNER, held_out

import fourierreg
from fourierreg.learning.card import save_with_card
from fourierreg.learning.novelty import RATE
from fourierreg.learning.scores import conformal_half_width

NAME = "brain-3d"
ALL = "people unseen"


def note_of(found):
    """What the errors on real pairs of unseen people say, in a sentence or two."""
    every, one, other = (found[name] for name in (ALL, ONE_QUALITY, UNSEEN_SCANNER))
    note = (
        f"On real pairs of unseen people its median error of ln α is "
        f"{every['median_absolute_error']:.2f}, R² {every['r_squared']:.2f}"
    )
    if one["r_squared"] <= 0:
        note += "; among scans of one scanner as they are it is no better than their mean"
    if other["mse"] >= other["mse_of_constant"]:
        note += "; on a scanner that it has not seen it is no better than the mean"
    if SIMULATED in found and found[SIMULATED]["r_squared"] <= 0:
        note += "; it does not predict α of simulated pairs"
    return f"{note}."


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    options = parser.parse_args()
    model = fourierreg.load_model(Path(options.work) / f"{'-'.join((*NETWORK, 'final'))}.keras")
    columns, _ = held_out(*NETWORK)
    pooled = columns["fold"] != "ixi"
    errors = (columns["predicted"] - columns["alpha"])[pooled]
    rows = {
        row["pairs of"]: {
            k: int(v) if k == "pairs" else float(v)
            for k, v in row.items()
            if v and k not in ("architecture", "variant", "pairs of")
        }
        for row in tables.read(TABLE)
        if (row["architecture"], row["variant"]) == NETWORK
    }
    card = {
        **model.card,
        "name": NAME,
        "licence": LICENSE,
        "interval": {
            "from": "five folds over people",
            **conformal_half_width(errors),
            "coverage_of_left_out_folds": rows[ALL]["coverage"],
            "coverage_of_an_unseen_scanner": rows[UNSEEN_SCANNER]["coverage"],
        },
        "novelty": {
            **model.card["novelty"],
            "threshold": float(np.quantile(columns["novelty"][pooled], 1 - RATE)),
            "held_out_pairs": int(pooled.sum()),
        },
        "cross_validation": {"what": "real pairs, five folds over people", **rows},
    }
    card["cross_validation"]["note"] = note_of(rows)
    save_with_card(
        model.network, resources.files("fourierreg.learning") / "models" / f"{NAME}.keras", card
    )
    print(card["cross_validation"]["note"])


if __name__ == "__main__":
    main()
