"""Benchmark of fitting: one grid fit and 4,000 bootstraps, against other tools.

``python -m tools.bench.fit`` (``make bench-fit``) makes a virtual environment for each
peer below ``build/bench/venvs``, runs every tool on the same 240 points, in turns, and
prints seconds (best of the rounds), ratios and the objective each one reached. Points
come from ``$GR_JAX_DATA/scaling``, or are simulated from the same law without it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "build" / "bench"
PEERS = {
    "scipy": ["numpy", "scipy"],
    "chinchilla": ["chinchilla==0.2.0"],
    # It asks for Python 3.12 and runs on 3.11.
    "simple-scaling-laws": [
        *("--ignore-requires-python", "--only-binary=:all:"),
        "simple-scaling-laws==0.2.0",
    ],
}
RESAMPLES = 4000

# The 4,500 starts of Epoch's notebook, in ln A, ln B, ln E, alpha, beta.
_PREAMBLE = """
import itertools, json, sys, time
import numpy as np
table = np.load(sys.argv[1])
N, D, L = table["N"], table["D"], table["L"]
def total(p, n=np.log(N), d=np.log(D), l=np.log(L)):
    f = np.logaddexp(np.logaddexp(p[0] - p[3] * n, p[1] - p[4] * d), p[2])
    r = np.abs(l - f)
    return float(np.where(r <= 1e-3, 0.5 * r * r, 1e-3 * (r - 5e-4)).sum())
starts = list(itertools.product(
    np.arange(0, 30, 5.0), np.arange(0, 30, 5.0), np.arange(-1, 1.5, 0.5),
    np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5)))
"""
SCRIPTS = {
    "ours": _PREAMBLE
    + """
from gr_jax.fit import bootstrap, objective, optimum, points
from gr_jax.fit.laws import registry
begun = time.perf_counter()
data = points.make(np.stack([N, D], axis=1), L)
found = optimum.find(registry.get("chinchilla"), data, objective.Objective())
fit_s = time.perf_counter() - begun
grid = np.array(starts)
middle = np.log(data.x_RA).mean(axis=0)
start = np.stack([grid[:, 2], grid[:, 0] - grid[:, 3] * middle[0], grid[:, 3],
                  grid[:, 1] - grid[:, 4] * middle[1], grid[:, 4]], axis=1)
begun = time.perf_counter()
same = optimum.find(registry.get("chinchilla"), data, objective.Objective(),
                    start_SP=start)
same_s = time.perf_counter() - begun
begun = time.perf_counter()
bootstrap.pairs(found, resamples=4000)
boot_s = time.perf_counter() - begun
c = {k: float(v[0]) for k, v in found.coefficients().items()}
p = [np.log(c["A"]), np.log(c["B"]), np.log(c["E"]), c["alpha"], c["beta"]]
print(json.dumps({"fit_s": fit_s, "same_grid_s": same_s, "bootstrap_s": boot_s,
                  "same_grid_objective": same.total, "objective": total(p)}))
""",
    "scipy": _PREAMBLE
    + """
from scipy.optimize import minimize
share = int(sys.argv[2])
picked = [starts[i] for i in np.random.default_rng(0).permutation(len(starts))
          [:len(starts) // share]]
begun = time.perf_counter()
results = [minimize(total, s, method="L-BFGS-B") for s in picked]
fit_s = (time.perf_counter() - begun) * len(starts) / len(picked)
best = min(results, key=lambda r: r.fun)
generator = np.random.default_rng(0)
count = 4000 // share
begun = time.perf_counter()
for _ in range(count):
    i = generator.integers(len(L), size=len(L))
    minimize(total, best.x, args=(np.log(N[i]), np.log(D[i]), np.log(L[i])),
             method="L-BFGS-B")
boot_s = (time.perf_counter() - begun) * 4000 / count
print(json.dumps({"fit_s": fit_s, "bootstrap_s": boot_s, "objective": best.fun,
                  "note": f"timed on 1 in {share} of starts and resamples"}))
""",
    "chinchilla": _PREAMBLE
    + """
import os, tempfile, warnings
warnings.simplefilter("ignore")
import pandas
from chinchilla import Chinchilla
folder = tempfile.mkdtemp()
pandas.DataFrame({"C": 6 * N * D, "N": N, "D": D, "loss": L}).to_csv(
    os.path.join(folder, "df.csv"), index=False)
def huber(y_true, y_pred):
    r = np.abs(np.log(y_true) - np.log(y_pred))
    return np.where(r <= 1e-3, 0.5 * r * r, 1e-3 * (r - 5e-4))
cc = Chinchilla(folder, param_grid=dict(
    E=np.linspace(1, 2, 3), a=np.linspace(1, 10, 3), b=np.linspace(1, 10, 3),
    alpha=np.linspace(0.1, 0.7, 3), beta=np.linspace(0.1, 0.7, 3)),
    loss_fn=huber)
begun = time.perf_counter()
cc.fit()
fit_s = time.perf_counter() - begun
p = [np.log(cc.A), np.log(cc.B), np.log(cc.E), float(cc.alpha), float(cc.beta)]
print(json.dumps({"fit_s": fit_s, "bootstrap_s": None, "objective": total(p),
                  "note": "243 starts; it has no bootstrap"}))
""",
    "simple-scaling-laws": _PREAMBLE
    + """
import warnings
warnings.simplefilter("ignore")
import polars
from simple_scaling_laws import fit
frame = polars.DataFrame({
    "training_run_id": [f"r{i}" for i in range(len(L))],
    "model_size__n_params": N, "dataset_size__n_subjects": D,
    "train_set_id": [f"t{i}" for i in range(len(L))],
    "test_set_id": ["e"] * len(L), "optimizer_seed": [0] * len(L),
    "test_loss__cross_entropy": L})
def seconds(draws):
    begun = time.perf_counter()
    model = fit(frame, n_draws=draws, seed=0)
    return time.perf_counter() - begun, model
seconds(100)
short_s, model = seconds(100)
long_s, model = seconds(4100)
boot_s = long_s - short_s
fit_s = short_s - boot_s / 40  # of the shorter call, its 100 draws taken away
c = model.params("test_loss__cross_entropy")
# Its A and B hold at a reference scale; in our units they follow from the data, as
# the linear least squares that it solves for them.
columns = np.stack([N ** -c["alpha"], D ** -c["beta"]], axis=1)
a, b = np.linalg.lstsq(columns, L - c["E"], rcond=None)[0]
p = [np.log(a), np.log(b), np.log(c["E"]), c["alpha"], c["beta"]]
print(json.dumps({"fit_s": fit_s, "bootstrap_s": boot_s, "objective": total(p),
                  "note": "squares on the loss, wild bootstrap"}))
""",
}


def points_file() -> Path:
    """The 240 points as arrays, written once."""
    import numpy as np

    path = HERE / "points.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    root = os.environ.get("GR_JAX_DATA")
    if root:
        from tools import check_fit

        data = check_fit.epoch(Path(root) / "scaling", dropped=5)
        x_RA, loss_R = data.x_RA, data.y_R
    else:
        generator = np.random.Generator(np.random.PCG64(0))
        log_c_R = generator.uniform(np.log(1e18), np.log(1e22), 240)
        log_n_R = 0.5 * log_c_R + generator.uniform(-3.5, -0.5, 240)
        x_RA = np.exp(np.stack([log_n_R, log_c_R - np.log(6) - log_n_R], axis=1))
        loss_R = 1.82 + 480 * x_RA[:, 0] ** -0.347 + 2100 * x_RA[:, 1] ** -0.367
        loss_R = loss_R * np.exp(0.006 * generator.standard_normal(240))
    np.savez(path, N=x_RA[:, 0], D=x_RA[:, 1], L=loss_R)
    return path


def environment(name: str, packages: list[str]) -> Path | None:
    """The interpreter of a peer's own environment, None if it cannot be made."""
    folder = HERE / "venvs" / name
    python = folder / "bin" / "python"
    if (folder / "made").exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [python, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    done = subprocess.run([*pip, *packages])
    if done.returncode:
        return None
    (folder / "made").touch()
    return python


def measure(name: str, python: Path, path: Path, share: int) -> dict[str, Any]:
    """One run in a fresh process, with the whole process's time beside."""
    begun = time.perf_counter()
    done = subprocess.run(
        [python, "-c", SCRIPTS[name], path, str(share)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        # BLAS threads that wait for each other on busy cores would time the machine.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    process_s = time.perf_counter() - begun
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": last}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**row, "process_s": process_s}


def run_round(
    pythons: dict[str, Path | None], path: Path, share: int
) -> dict[str, Any]:
    """Every tool once, in turn: a busy machine slows all of them alike."""
    rows: dict[str, Any] = {"ours": measure("ours", Path(sys.executable), path, share)}
    for name, python in pythons.items():
        if python is None:
            rows[name] = {"error": "could not be installed"}
        else:
            rows[name] = measure(name, python, path, share)
    return rows


def best_of(rounds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each tool the fastest of its rounds, number by number."""
    best: dict[str, dict[str, Any]] = {}
    for name in rounds[0]:
        rows = [r[name] for r in rounds if "error" not in r[name]]
        if not rows:
            best[name] = rounds[0][name]
            continue
        best[name] = dict(rows[0])
        for key, value in rows[0].items():
            if key.endswith("_s") and value is not None:
                best[name][key] = min(row[key] for row in rows)
    return best


def main(argv: list[str]) -> int:
    """Prints the table and writes ``build/bench/fit.json``; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench-fit", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "fit.json")
    parser.add_argument(
        "--share",
        type=int,
        default=10,
        help="SciPy runs one in so many starts and resamples, and is scaled up",
    )
    args = parser.parse_args(argv)
    path = points_file()
    pythons = {name: environment(name, packages) for name, packages in PEERS.items()}
    rounds = [run_round(pythons, path, args.share) for _ in range(args.rounds)]
    best = best_of(rounds)
    rows = table(best)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    rounds_file = args.out.with_name(f"{args.out.stem}-rounds.json")
    rounds_file.write_text(json.dumps(rounds, indent=1) + "\n")
    for name, row in best.items():
        print(f"{name}: {row.get('error') or row.get('note', '')}")
    for row in rows:
        print("  ".join(f"{key}={_shown(value)}" for key, value in row.items()))
    return 0 if all(row["holds"] is not False for row in rows) else 1


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# Peer, number, what it is, our number, least ratio.
_MEASURES = (
    ("scipy", "fit_s", "grid fit, s, same 4,500 starts", "same_grid_s", 20.0),
    ("scipy", "fit_s", "grid fit, s, own starts", "fit_s", 20.0),
    ("scipy", "bootstrap_s", "4,000 bootstraps, s", "bootstrap_s", 20.0),
    # One problem of squares, no robust loss, no certificate: shown, not the same job.
    ("simple-scaling-laws", "fit_s", "fit without draws, s", "fit_s", None),
    ("simple-scaling-laws", "bootstrap_s", "4,000 bootstraps, s", "bootstrap_s", 2.0),
    ("simple-scaling-laws", "process_s", "cold process, s", "process_s", None),
    ("chinchilla", "fit_s", "fit, s, its 243 starts", "fit_s", None),
)


def table(best: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of measure, anchor, ours, ratio, goal, holds."""
    ours = best["ours"]
    rows = [
        _row(f"{peer}: {measure}", best[peer].get(theirs), ours[mine], goal)
        for peer, theirs, measure, mine, goal in _MEASURES
    ]
    cold = _row("cold process: import, two fits, 4,000 bootstraps, s", None, 0.0, None)
    cold |= {"ours": ours["process_s"], "goal": 12.0, "holds": ours["process_s"] < 12}
    reached = [row["objective"] for row in best.values() if "error" not in row]
    lowest = _row("objective, the lowest of all", min(reached), ours["objective"], 1.0)
    # Sums in another order differ in the last digits.
    lowest["holds"] = ours["objective"] <= min(reached) * (1 + 1e-9)
    return [*rows, cold, lowest]


def _row(
    measure: str, anchor: float | None, ours: float, goal: float | None
) -> dict[str, Any]:
    ratio = anchor / ours if anchor is not None and ours else None
    holds = None if goal is None or ratio is None else ratio >= goal
    return {
        "measure": measure,
        "anchor": anchor,
        "ours": ours,
        "ratio": ratio,
        "goal": goal,
        "holds": holds,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
