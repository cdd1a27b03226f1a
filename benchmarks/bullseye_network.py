"""The 2D network: training pairs, training, and its errors on unseen pairs. Resumable.

    python benchmarks/bullseye_network.py --work WORK --pairs 20000 --epochs 20
    python benchmarks/bullseye_network.py --work WORK --estimate
    python benchmarks/bullseye_network.py --work WORK --evaluate
    python benchmarks/bullseye_network.py --summary

Training data: random ellipses, ln α uniform for α from 0.1 to 15, noise 0.03, one velocity scale.
Test data: 300 unseen pairs each at α = 0.1, 1 and 10, and 300 at continuous α. `--estimate` runs
the marginal estimate on the first `--estimates` of each, starting at the prediction as `predict
--refine` does. `--evaluate` predicts all test pairs and writes
predictions and estimates to one table.
"""

import argparse
from pathlib import Path

import numpy as np
import tables

import fourierreg
from fourierreg.simulation.bullseye_folder import make_bullseye_dataset

TABLE, ESTIMATES = "bullseye_network.csv", "bullseye_estimates.csv"
NAME = "bullseye-2d"
RANGE = (0.1, 15.0, "log-uniform")
PARAMETERS = {"sigma": 0.03, "velocity_scale": 0.1}
TESTS = {"0.1": [0.1], "1": [1.0], "10": [10.0], "continuous": RANGE}
LICENSE = "Simulated bull-eye images only: no data of persons."


def test_set(work, name):
    """Test pairs of one value, or of the range, of α."""
    seed = 1000 + list(TESTS).index(name)
    folder = Path(work) / f"test-{name}"
    return make_bullseye_dataset(folder, 300, alphas=TESTS[name], seed=seed, **PARAMETERS)


def estimate(work, model, count):
    """Marginal estimates of the first pairs of each test set, one of each set in turn."""
    model = fourierreg.load_model(model)
    sets = {name: test_set(work, name) for name in TESTS}
    for index in range(count):
        for name, pairs in sets.items():
            if tables.has(ESTIMATES, test=name, index=index):
                continue
            pair = pairs[index]
            start = fourierreg.predict_alpha(model, pair.source, pair.target).alpha
            options = {"alpha0": start, "posterior": "marginal", **PARAMETERS}
            result = fourierreg.map_alpha(pair.source, pair.target, **options)
            low, high = result.alpha_interval
            row = {"test": name, "index": index, "alpha": f"{pair.row['alpha']:.5g}"}
            row |= {"marginal": f"{result.alpha:.5g}", "low": f"{low:.5g}", "high": f"{high:.5g}"}
            tables.append(ESTIMATES, {**row, "converged": result.converged})
            print(row, flush=True)


def residual(pair, alpha):
    """Mean squared difference between the target and the source registered at α."""
    result = fourierreg.register(pair.source, pair.target, alpha=alpha, **PARAMETERS)
    return float(np.mean((result.deformed - pair.target) ** 2))


def evaluate(work, model):
    """Write a row per test pair, with estimate and registration errors of those estimated."""
    model, rows = fourierreg.load_model(model), []
    estimates = {(r["test"], int(r["index"])): r for r in tables.read(ESTIMATES)}
    for name in TESTS:
        for index, pair in enumerate(test_set(work, name)):
            found = fourierreg.predict_alpha(model, pair.source, pair.target)
            row = {
                "test": name,
                "index": index,
                "alpha": f"{pair.row['alpha']:.5g}",
                "predicted": f"{found.alpha:.5g}",
            }
            known = estimates.get((name, index), {})
            row |= {key: known.get(key, "") for key in ("marginal", "low", "high")}
            row |= {"mse_predicted": "", "mse_true": ""}
            if known:
                row["mse_predicted"] = f"{residual(pair, found.alpha):.6g}"
                row["mse_true"] = f"{residual(pair, pair.row['alpha']):.6g}"
            rows.append(row)
    tables.replace(TABLE, rows)


def summary():
    """Print the median |ln α̂ - ln α| of network and marginal estimate for each test set."""
    for name in TESTS:
        rows = [r for r in tables.read(TABLE) if r["test"] == name]
        if not rows:
            continue

        def errors(column, rows=rows):
            pairs = [(float(r[column]), float(r["alpha"])) for r in rows if r[column]]
            return np.abs(np.diff(np.log(pairs), axis=1))[:, 0]

        network, marginal = errors("predicted"), errors("marginal")
        line = f"α {name:10s}: median |Δ ln α| network {np.median(network):.3f} ({len(rows)} pairs)"
        if marginal.size:
            same = errors("predicted", [r for r in rows if r["marginal"]])
            line += (
                f", marginal {np.median(marginal):.3f} ({marginal.size}; network on these "
                f"{np.median(same):.3f}): {np.median(network) / np.median(marginal):.2f} ×"
            )
            mse = [
                np.median([float(r[k]) for r in rows if r[k]])
                for k in ("mse_predicted", "mse_true")
            ]
            line += f"; mean squared difference {mse[0]:.3e}, at the true α {mse[1]:.3e}"
        print(line)
    print(f"noise floor σ² = {PARAMETERS['sigma'] ** 2:.1e}")


def train(options, folder, path):
    """Make the training pairs and train the network."""
    make_bullseye_dataset(
        folder,
        options.pairs,
        alphas=RANGE,
        **PARAMETERS,
        callback=lambda done, total: done % 1000 or print(done, "pairs", flush=True),
    )
    trained = fourierreg.train(
        folder,
        path,
        epochs=options.epochs,
        decay_epochs=options.epochs,
        patience=options.patience,
        filters=options.filters,
        output=options.loss_on,
        shared_streams=not options.separate_streams,
        fractions=(0.9, 0.05, 0.05),
        license=LICENSE,
        callback=lambda done, total: print(f"epoch {done} of {total}", flush=True),
    )
    print(trained.card["scores"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="bullseye-network", help="folder of data and model")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--loss-on", default="log_alpha", choices=["log_alpha", "alpha"])
    parser.add_argument("--separate-streams", action="store_true")
    parser.add_argument("--estimates", type=int, default=40)
    parser.add_argument("--estimate", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    work = Path(options.work)
    model = work / f"{NAME}.keras"
    if not (options.estimate or options.evaluate or options.summary):
        train(options, work / "training", model)
    if options.estimate:
        estimate(work, model, options.estimates)
    if options.evaluate:
        evaluate(work, model)
    if options.summary or options.evaluate:
        summary()


if __name__ == "__main__":
    main()
