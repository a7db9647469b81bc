/// The page at `/`: one self-contained document that asks the JSON API every two seconds.
///
/// It only reads. Whatever comes from the API goes into the page as text, never as markup.
enum Dashboard {
    /// Nothing is loaded from anywhere, and nobody may frame the page.
    static let contentSecurityPolicy: StaticString = """
        default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
        connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
        frame-ancestors 'none'
        """

    static let page = head + style + body + script

    private static let head = """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>Weir</title>
        <link rel="icon" href="data:,">

        """

    private static let style = """
        <style>
        :root {
          --page: #f6f7f9; --card: #ffffff; --line: #dde1e7; --text: #1b2430; --dim: #667085;
          --accent: #1f6feb; --good: #1a7f45; --warn: #9a6700; --bad: #c62828; --bar: #dbe7fb;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --page: #0f141b; --card: #171e27; --line: #2b3542; --text: #e4e9f0; --dim: #93a0b1;
            --accent: #6ea8fe; --good: #57c98a; --warn: #e0b252; --bad: #f28b82; --bar: #24395c;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0; background: var(--page); color: var(--text);
          font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums;
        }
        header, main { max-width: 1200px; margin: 0 auto; padding: 16px 20px; }
        header { display: flex; flex-wrap: wrap; gap: 4px 24px; align-items: baseline; }
        h1 { font-size: 20px; margin: 0; }
        h2 { font-size: 16px; margin: 0; }
        .dim { color: var(--dim); }
        #trouble { color: var(--bad); font-weight: 600; }
        section {
          background: var(--card); border: 1px solid var(--line); border-radius: 8px;
          margin-bottom: 16px; padding: 14px 16px; overflow-x: auto;
        }
        .title { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: baseline; }
        .title svg { margin-left: auto; align-self: center; }
        polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; }
        table { border-collapse: collapse; width: 100%; margin-top: 8px; }
        th { text-align: left; color: var(--dim); font-weight: 500; font-size: 12px; }
        th, td { padding: 5px 14px 5px 0; white-space: nowrap; }
        th, td { border-bottom: 1px solid var(--line); }
        tr:last-child td { border-bottom: 0; }
        .number { text-align: right; }
        td .why { display: inline-block; max-width: 420px; white-space: normal; }
        .share { display: inline-block; width: 90px; height: 8px; border-radius: 4px; }
        .share { background: var(--bar); margin-right: 8px; overflow: hidden; }
        .share i { display: block; height: 100%; background: var(--accent); }
        .good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
        </style>
        </head>

        """

    private static let body = """
        <body>
        <header>
        <h1>Weir</h1>
        <span id="state" class="dim">connecting</span>
        <span id="trouble" role="status"></span>
        </header>
        <main>
        <div id="models"></div>
        <section><div class="title"><h2>Replicas</h2></div><div id="replicas"></div></section>
        </main>

        """

    private static let script = #"""
        <script>
        "use strict";
        const period = 2000, points = 90, history = new Map();

        function element(tag, text, kind) {
          const node = document.createElement(tag);
          if (text !== undefined) node.textContent = text;
          if (kind) node.className = kind;
          return node;
        }
        const known = (value) => value !== null && value !== undefined;
        const rate = (value) => known(value) ? value.toFixed(value >= 100 ? 0 : 1) : "–";
        function time(seconds) {
          if (!known(seconds)) return "–";
          if (seconds < 0.001) return (seconds * 1e6).toFixed(0) + " µs";
          if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0) + " ms";
          if (seconds < 120) return seconds.toFixed(1) + " s";
          if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
          return (seconds / 3600).toFixed(0) + " h";
        }
        function table(heads, rows) {
          const node = element("table"), top = node.createTHead().insertRow();
          for (const [title, kind] of heads) top.append(element("th", title, kind));
          const body = node.createTBody();
          for (const row of rows) {
            const line = body.insertRow();
            row.forEach((cell, index) => {
              const data = element("td", undefined, heads[index][1]);
              data.append(cell);
              line.append(data);
            });
          }
          return node;
        }
        function share(weight, sum) {
          const percent = sum > 0 ? 100 * weight / sum : 0;
          const cell = element("span"), bar = element("span", undefined, "share");
          const fill = element("i");
          fill.style.width = percent + "%";
          bar.append(fill);
          cell.append(bar, percent.toFixed(percent % 1 ? 1 : 0) + " %");
          return cell;
        }
        function line(name, value) {
          const values = history.get(name) ?? [];
          if (known(value)) values.push(value);
          while (values.length > points) values.shift();
          history.set(name, values);
          const space = "http://www.w3.org/2000/svg", node = document.createElementNS(space, "svg");
          node.setAttribute("width", 180);
          node.setAttribute("height", 30);
          node.setAttribute("role", "img");
          node.setAttribute("aria-label", "requests per second");
          const most = Math.max(1, ...values), path = document.createElementNS(space, "polyline");
          path.setAttribute("points", values.map((value, index) =>
            `${(180 - (values.length - 1 - index) * 180 / points).toFixed(1)},` +
            `${(28 - 26 * value / most).toFixed(1)}`).join(" "));
          node.append(path);
          return node;
        }
        const variantHeads = [
          ["Variant"], ["Share"], ["Ready", "number"], ["In flight", "number"],
          ["Requests/s", "number"], ["Errors/s", "number"], ["p50", "number"], ["p95", "number"],
          ["p99", "number"], ["First token p95", "number"], ["Tokens/s", "number"],
          ["Cold start", "number"], ["Why so many"],
        ];
        function variantRow(variant, measured, sum) {
          const { ready, desired } = variant.replicas, wrong = measured.errorsPerSecond > 0;
          return [
            variant.name, share(variant.weight, sum),
            element("span", `${ready} of ${desired}`, ready < desired ? "warn" : ""),
            String(measured.inFlight ?? 0), rate(measured.requestsPerSecond),
            element("span", rate(measured.errorsPerSecond), wrong ? "bad" : ""),
            time(measured.duration?.p50), time(measured.duration?.p95),
            time(measured.duration?.p99),
            time(measured.timeToFirstToken?.p95), rate(measured.outputTokensPerSecond),
            time(variant.coldStartSeconds),
            element("span", variant.scalingReason ?? "set by hand", "dim why"),
          ];
        }
        function modelSection(model, measured) {
          const section = element("section"), title = element("div", undefined, "title");
          const refused = measured.refusedPerSecond > 0;
          title.append(
            element("h2", model.name), element("span", model.protocol, "dim"),
            element("span", model.scaling === null ? "" : model.scaling.dryRun
              ? `${model.scaling.policy} (dry run)` : model.scaling.policy, "dim"),
            element("span", `${rate(measured.requestsPerSecond)} requests/s`),
            element("span", `${model.queueDepth} in the queue`, model.queueDepth ? "warn" : "dim"),
            element("span", `wait p95 ${time(measured.queueWait?.p95)}`, "dim"),
            element(
              "span", `refused ${rate(measured.refusedPerSecond)}/s`, refused ? "bad" : "dim"),
            element("span", `overhead p50 ${time(measured.overhead?.p50)}`, "dim"),
            line(model.name, measured.requestsPerSecond));
          const sum = model.variants.reduce((total, variant) => total + variant.weight, 0);
          const byName = new Map(
            (measured.variants ?? []).map((variant) => [variant.name, variant]));
          const rollout = model.rollout;
          const kinds = { live: "dim", rolledBack: "bad", paused: "warn", rollingBack: "bad" };
          if (rollout !== null && (rollout.canary !== null || rollout.state !== "live"))
            section.append(element("p", rollout.reason, kinds[rollout.state] ?? "good"));
          section.prepend(title);
          section.append(table(variantHeads, model.variants.map(
            (variant) => variantRow(variant, byName.get(variant.name) ?? {}, sum))));
          return section;
        }
        const replicaHeads = [
          ["Replica"], ["Model"], ["Variant"], ["State"], ["For", "number"], ["Address"],
          ["Process", "number"], ["In flight", "number"], ["Restarts", "number"],
          ["Cold start", "number"], ["Message"],
        ];
        const stateKinds = { ready: "good", crashLooping: "bad", failed: "bad", notReady: "bad" };
        const replicaRow = (replica) => [
          replica.id, replica.model ?? "–", replica.variant ?? "–",
          element("span", replica.state, stateKinds[replica.state] ?? "warn"),
          time(replica.stateSeconds), replica.address ?? "–", String(replica.pid ?? "–"),
          String(replica.inFlight), String(replica.restarts), time(replica.coldStartSeconds),
          element("span", replica.message, "dim"),
        ];
        async function ask(path) {
          const answer = await fetch(path, { cache: "no-store" });
          if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
          return answer.json();
        }
        async function update() {
          try {
            const [models, replicas, statistics, snapshot] = await Promise.all(
              ["models", "replicas", "statistics", "snapshot"].map(
                (name) => ask("/api/v1/" + name)));
            const measured = new Map(statistics.models.map((model) => [model.name, model]));
            document.getElementById("models").replaceChildren(
              ...models.models.map((model) => modelSection(model, measured.get(model.name) ?? {})));
            document.getElementById("replicas").replaceChildren(
              table(replicaHeads, replicas.replicas.map(replicaRow)));
            document.getElementById("state").textContent =
              `generation ${snapshot.generation}, in force ${snapshot.acknowledged} · ` +
              `${statistics.connections.client} client and ` +
              `${statistics.connections.upstream} upstream connections`;
            const ready = await fetch("/readyz", { cache: "no-store" });
            document.getElementById("trouble").textContent =
              ready.ok ? "" : "not ready: " + (await ready.text()).trim();
          } catch (error) {
            document.getElementById("trouble").textContent = "no answer: " + error.message;
          }
          setTimeout(update, period);
        }
        update();
        </script>
        </body>
        </html>

        """#
}
