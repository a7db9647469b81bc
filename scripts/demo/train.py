#!/usr/bin/env python3
"""Trains the two classifiers of the demonstration and saves them as MLServer models.

Both learn handwritten digits (8 by 8 pixels, from scikit-learn) from the same split:

* v1 is weak on purpose: a logistic regression that sees only the sixteen pixels in the middle;
* v2 is better: a support vector machine that sees all sixty-four.

With --flawed there are three more, for the demonstration of rollouts. They have learned what v2
has, and each has one flaw (see flawed.py): v3 fails for some requests, v4 is slow, v5 answers
wrongly.

The images that neither has seen are written beside them for the driver, which compares what the
models answer through the gateway with the true labels. Training takes about a second; it is
skipped when everything is there already and was made by this very file and library version.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

MODEL_NAME = "digits"
FLAWED = pathlib.Path(__file__).with_name("flawed.py")
SEED = 20
TEST_SHARE = 0.4
CENTRE_PIXELS = [row * 8 + column for row in range(2, 6) for column in range(2, 6)]


def build_weak():
    """A logistic regression on the sixteen pixels in the middle, stopped early."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    centre = ColumnTransformer([("centre", MinMaxScaler(), CENTRE_PIXELS)])
    return make_pipeline(centre, LogisticRegression(C=0.02, max_iter=200))


def build_better():
    """A support vector machine on all pixels."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler
    from sklearn.svm import SVC

    return make_pipeline(MinMaxScaler(), SVC(gamma=0.5, C=3.0))


def model_settings(version, implementation):
    """What MLServer reads about the model; the name is what stands in the request path."""
    return {
        "name": MODEL_NAME,
        "implementation": implementation,
        "parameters": {"uri": "./model.joblib", "version": version},
    }


def server_settings():
    """What MLServer reads about itself. Ports come from the environment of each replica."""
    return {
        "host": "127.0.0.1",
        "debug": False,
        "parallel_workers": 0,  # the model runs in the server's own process: lighter to start
        "use_structured_logging": False,
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_model(directory, model, version, implementation="mlserver_sklearn.SKLearnModel"):
    import joblib

    directory.mkdir(parents=True)
    joblib.dump(model, directory / "model.joblib")
    write_json(directory / "model-settings.json", model_settings(version, implementation))
    write_json(directory / "settings.json", server_settings())


def fingerprint():
    """Names what the saved models depend on: this file and the library that pickles them."""
    import sklearn

    text = pathlib.Path(__file__).read_bytes() + FLAWED.read_bytes() + sklearn.__version__.encode()
    return hashlib.sha256(text).hexdigest()


def train(output, with_flawed):
    """Trains and saves; returns {"digits-v1": accuracy, …}, measured on the held-out images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels
    )
    accuracy = {}
    for version, model in (("v1", build_weak()), ("v2", build_better())):
        model.fit(train_images, train_labels)
        accuracy[f"digits-{version}"] = round(float(model.score(test_images, test_labels)), 4)
        save_model(output / f"digits-{version}", model, version)
    if with_flawed:
        for version, flaw in (("v3", "Failing"), ("v4", "Slow"), ("v5", "Wrong")):
            folder = output / f"digits-{version}"
            save_model(folder, model, version, f"flawed.{flaw}")
            shutil.copy(FLAWED, folder / "flawed.py")
    held_out = {
        "images": test_images.astype(int).tolist(),
        "labels": test_labels.astype(int).tolist(),
        "accuracy": accuracy,
        "fingerprint": fingerprint(),
    }
    write_json(output / "held-out.json", held_out)
    write_json(output / "example.json", example_request(held_out["images"][0]))
    return accuracy


def example_request(image):
    """One image as a request that curl can send."""
    tensor = {"name": "image", "shape": [1, len(image)], "datatype": "FP32", "data": image}
    return {"inputs": [tensor]}


def trained_before(output):
    """Accuracies of an earlier training that is still valid, or None."""
    try:
        held_out = json.loads((output / "held-out.json").read_text(encoding="utf-8"))
        files = [output / name / "model.joblib" for name in held_out["accuracy"]]
        if held_out["fingerprint"] == fingerprint() and all(f.is_file() for f in files):
            return held_out["accuracy"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def main():
    parser = argparse.ArgumentParser(description="Train the demonstration's two classifiers.")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="folder for the models")
    parser.add_argument("--flawed", action="store_true", help="also the variants with a flaw")
    parser.add_argument("--force", action="store_true", help="train even if nothing changed")
    arguments = parser.parse_args()
    output = arguments.output
    accuracy = None if arguments.force else trained_before(output)
    state = "unchanged"
    if accuracy is None:
        state = "trained"
        output.parent.mkdir(parents=True, exist_ok=True)
        # Made beside and moved into place: an interrupted training leaves nothing half-made.
        fresh = pathlib.Path(tempfile.mkdtemp(prefix="models-", dir=output.parent))
        try:
            accuracy = train(fresh, arguments.flawed)
            shutil.rmtree(output, ignore_errors=True)
            os.replace(fresh, output)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    for name, share in sorted(accuracy.items()):
        print(f"    {name}: {state}, {share:.1%} of the held-out images right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
