"""Far more clients than places: those beyond the queue are refused at once, the others served."""

import json
import threading

from harness import http

SECONDS = 5
CLIENTS = 48
PLACES, WAITING = 4, 8
PATH = "/v2/models/river/infer"
INPUT = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def refusal(weir, body):
    """An answer to somebody who is refused, of several who ask at once."""
    answers = []

    def ask():
        headers = {"content-type": "application/json"}
        answers.append(http.call(weir.port, "POST", PATH, body, headers))

    threads = [threading.Thread(target=ask) for _ in range(2 * (PLACES + WAITING))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return next((answer for answer in answers if answer.status == 429), None)


def most_in_flight(weir):
    """The largest number that the gateway's own metric showed, sampled from outside."""
    text = http.call(weir.admin, "GET", "/metrics").body.decode()
    values = [
        float(line.rpartition(" ")[2]) for line in text.splitlines()
        if line.startswith("weir_in_flight_requests{")
    ]
    return max(values, default=0)


def check(test):
    server = test.simulator("river", "--service-time", "50ms", "--servers", PLACES,
                            "--model", "river")
    weir = test.start_weir(server)
    body = json.dumps(INPUT).encode()
    file = test.write("body.json", body)
    load = test.start_load(
        f"{weir.url}{PATH}", "--body-file", file, "-H", "content-type: application/json",
        "--connections", CLIENTS, seconds=SECONDS,
    )
    seen = 0
    while load.thread.is_alive():
        seen = max(seen, most_in_flight(weir))
        load.thread.join(0.05)
    result = load.result()
    statuses = result["statuses"]
    test.expect(
        "answers", "200 and 429, nothing else", str(statuses), set(statuses) == {"200", "429"}
    )
    test.expect("in flight at the server", f"1 to {PLACES}", f"{seen:g}", 0 < seen <= PLACES)
    refused = refusal(weir, body)
    seconds = refused.headers.get("retry-after") if refused else None
    test.expect("Retry-After of a refusal", "whole seconds", str(seconds),
                seconds is not None and seconds.isdigit())
    after = http.call(weir.port, "POST", PATH, body)
    test.expect("a request afterwards", "200", str(after.status), after.status == 200)
