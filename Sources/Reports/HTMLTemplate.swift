/// The fixed parts of the page.
enum HTMLTemplate {
    static let beforeData = head + style + body
    static let afterData = "</script>\n" + script + "</body>\n</html>\n"

    private static let head = """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta http-equiv="content-security-policy"
          content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';
            img-src data:">
        <title>Weir</title>
        <link rel="icon" href="data:,">

        """

    private static let style = """
        <style>
        :root {
          --page: #f6f7f9; --card: #ffffff; --line: #dde1e7; --grid: #eceff3; --text: #1b2430;
          --dim: #667085; --bad: #c62828; --good: #1a7f45; --shade: #f1f4f9;
          --a: #1f6feb; --b: #b26a00; --c: #c62828; --d: #8a94a6; --e: #1a7f45; --f: #8250df;
          --g: #0e7490;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --page: #0f141b; --card: #171e27; --line: #2b3542; --grid: #222b37; --text: #e4e9f0;
            --dim: #93a0b1; --bad: #f28b82; --good: #57c98a; --shade: #1c2531;
            --a: #6ea8fe; --b: #e0b252; --c: #f28b82; --d: #7b8798; --e: #57c98a; --f: #b794f6;
            --g: #5ccfe0;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0; background: var(--page); color: var(--text);
          font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums;
        }
        header, main { max-width: 1200px; margin: 0 auto; padding: 18px 20px; }
        header { padding-bottom: 0; }
        h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; }
        h2 { font-size: 14px; margin: 0 0 8px; }
        .dim { color: var(--dim); }
        .banner {
          border: 1px solid var(--bad); color: var(--bad); border-radius: 8px; padding: 10px 14px;
          margin-top: 12px; font-weight: 600;
        }
        .search { margin-top: 12px; font-weight: 600; }
        .tiles { display: grid; gap: 12px; margin-bottom: 16px;
          grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
        .tile, section {
          background: var(--card); border: 1px solid var(--line); border-radius: 8px;
          padding: 12px 14px;
        }
        /* Names, values and notes of a row begin on one line each, also where a name takes two. */
        .tile { display: grid; grid-row: span 3; grid-template-rows: subgrid; row-gap: 0;
          align-items: end; }
        .tile span:last-child { align-self: start; }
        .tile b { font-size: 22px; font-weight: 600; line-height: 1.3; }
        .tile b.bad, td.missed { color: var(--bad); } td.kept { color: var(--good); }
        .charts { display: grid; gap: 16px; margin-bottom: 16px;
          grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
        section { overflow-x: auto; margin-bottom: 16px; }
        .charts section { margin: 0; position: relative; overflow: hidden; }
        .legend { float: right; max-width: 70%; text-align: right; font-size: 12px;
          color: var(--dim); }
        .legend span { white-space: nowrap; }
        /* Of many lines: below the title, which else has no room. */
        .legend.many { float: none; display: block; max-width: none; text-align: left;
          margin-bottom: 6px; }
        .legend.many span { margin-right: 12px; } .legend.many i { margin-left: 0; }
        .legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px;
          vertical-align: middle; margin: 0 5px 0 12px; }
        svg { display: block; width: 100%; height: auto; }
        svg text { fill: var(--dim); font-size: 11px; }
        .grid { stroke: var(--grid); } .axis { stroke: var(--line); }
        .shade { fill: var(--shade); }
        .cursor { stroke: var(--dim); stroke-dasharray: 3 3; visibility: hidden; }
        .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
        .tip {
          position: absolute; pointer-events: none; visibility: hidden; background: var(--card);
          border: 1px solid var(--line); border-radius: 6px; padding: 6px 9px; font-size: 12px;
          box-shadow: 0 2px 8px #0003; white-space: nowrap;
        }
        table { border-collapse: collapse; width: 100%; }
        th { color: var(--dim); font-weight: 500; font-size: 12px; }
        th, td { padding: 5px 0 5px 18px; text-align: right; white-space: nowrap;
          border-bottom: 1px solid var(--line); }
        th.text, td.text { text-align: left; white-space: normal; min-width: 5em; }
        th:first-child, td:first-child { padding-left: 0; }
        tr:last-child td { border-bottom: 0; }
        </style>
        </head>

        """

    private static let body = """
        <body>
        <header><h1 id="title"></h1><div id="subtitle" class="dim"></div>
        <div id="notes"></div></header>
        <main><div class="tiles" id="tiles"></div><div id="summary"></div>
        <div class="charts" id="charts"></div>
        <div id="tables"></div></main>
        <noscript>The plots need JavaScript, which this page brings along.</noscript>
        <script type="application/json" id="data">
        """

    private static let script = #"""
        <script>
        "use strict";
        const data = JSON.parse(document.getElementById("data").textContent);
        const place = id => document.getElementById(id);
        function element(name, parent, attributes = {}, text) {
          const made = document.createElement(name);
          for (const key in attributes) made.setAttribute(key, attributes[key]);
          if (text !== undefined) made.textContent = text;
          parent.append(made);
          return made;
        }
        function drawn(name, parent, attributes, text) {
          const made = document.createElementNS("http://www.w3.org/2000/svg", name);
          for (const key in attributes) made.setAttribute(key, attributes[key]);
          if (text !== undefined) made.textContent = text;
          parent.append(made);
          return made;
        }
        const figures = value => {
          const size = Math.abs(value);
          const digits = size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : 2;
          return value.toFixed(digits).replace(/\.0+$|(\.\d*[1-9])0+$/, "$1");
        };
        function words(value, unit) {
          if (value === null || value === undefined) return "-";
          if (unit !== "s") {
            const [shown, letter] = value >= 1e6 ? [value / 1e6, "M"]
              : value >= 1e4 ? [value / 1e3, "k"] : [value, ""];
            return figures(shown) + letter + unit;
          }
          if (value === 0) return "0";
          if (value < 1e-3) return figures(value * 1e6) + " µs";
          if (value < 1) return figures(value * 1e3) + " ms";
          return figures(value) + " s";
        }
        function ticks(most, count) {
          if (!(most > 0)) return [0, 1];
          const rough = most / count, power = 10 ** Math.floor(Math.log10(rough));
          const step = [1, 2, 2.5, 5, 10].find(each => each * power >= rough) * power;
          const length = Math.ceil(most / step - 1e-9) + 1;
          return Array.from({length}, (_, index) => index * step);
        }
        // Those from the least to the most, wherever that begins.
        function evenTicks(least, most, count) {
          const step = ticks(most - least, count)[1];
          const first = Math.ceil(least / step - 1e-9);
          const length = Math.max(0, Math.floor(most / step + 1e-9) - first + 1);
          return Array.from({length}, (_, index) => (first + index) * step);
        }
        const quantileName = value => value >= 1 ? "max"
          : "p" + (value * 100).toFixed(4).replace(/\.?0+$/, "");
        const xWords = (value, axis) => axis === "quantile" ? quantileName(value)
          : axis === "rate" ? figures(value) + "/s"
          : axis === "GPU-hours" ? figures(value)
          : axis === "time" && value >= 7200 ? figures(value / 3600) + " h"
          : axis === "time" && value >= 600 ? figures(value / 60) + " min" : figures(value) + " s";
        // Whole hours and minutes rather than thousands of seconds.
        function timeTicks(most, count) {
          const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800,
            14400, 21600, 43200, 86400, 172800, 345600];
          const step = steps.find(each => most / each <= count) ?? 604800;
          return Array.from({length: Math.floor(most / step) + 1}, (_, index) => index * step);
        }
        // A series may bring its own x: then it is drawn with its points.
        const xOf = (spec, one) => one.x ?? spec.x;
        function chart(spec) {
          const section = element("section", place("charts"));
          const isMany = spec.series.length > 3;
          if (isMany) element("h2", section, {}, spec.title);
          const legend = element("span", section, {class: isMany ? "legend many" : "legend"});
          for (const one of spec.series) {
            const entry = element("span", legend);
            element("i", entry, {style: `background: var(--${one.color})`});
            entry.append(one.name);
            legend.append(" ");
          }
          if (!isMany) element("h2", section, {}, spec.title);
          // On a telephone drawn at its width: scaled down, nobody could read it.
          const room = section.clientWidth - 28, width = room < 480 ? Math.max(room, 260) : 560;
          const height = 230, left = 58, right = 12, top = 8, bottom = 26;
          const svg = drawn("svg", section, {viewBox: `0 0 ${width} ${height}`, role: "img"});
          drawn("title", svg, {}, spec.title);
          const toX = spec.axis === "quantile" ? q => -Math.log10(Math.max(1 - q, 1e-9)) : x => x;
          const all = spec.series.some(one => one.x)
            ? spec.series.flatMap(one => one.x ?? []).sort((a, b) => a - b) : spec.x;
          const finite = spec.axis === "quantile" ? all.filter(q => q < 1) : all;
          const least = spec.axis === "rate" ? 0
            : toX(finite[0] ?? 0) * (spec.axis === "GPU-hours" ? 0.95 : 1);
          const last = spec.axis === "time" && spec.x.length > 1 ? spec.x[1] - spec.x[0] : 0;
          const most = Math.max(toX(finite[finite.length - 1] ?? 1) + last, least + 1e-9);
          const x = value => left + (toX(value) - least) / (most - least) * (width - left - right);
          const high = Math.max(0, ...spec.series.flatMap(one => one.y.filter(y => y !== null)));
          const floor = spec.floor ?? 0;
          const steps = ticks(high - floor, 4).map(value => value + floor);
          const roof = steps[steps.length - 1];
          const y = value => height - bottom
            - (Math.max(value, floor) - floor) / (roof - floor) * (height - top - bottom);
          if (spec.axis === "time" && spec.to !== undefined) {
            const from = x(Math.max(spec.from, 0)), to = Math.min(x(spec.to), width - right);
            drawn("rect", svg, {class: "shade", x: from, y: top,
              width: Math.max(0, to - from), height: height - top - bottom});
          }
          for (const value of steps) {
            drawn("line", svg, {class: "grid", x1: left, x2: width - right, y1: y(value),
              y2: y(value)});
            drawn("text", svg, {x: left - 8, y: y(value) + 4, "text-anchor": "end"},
              words(value, spec.unit));
          }
          const marks = spec.axis === "quantile"
            ? [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999].filter(q => toX(q) <= most)
            : spec.axis === "time"
            ? timeTicks(most, width / 80).filter(value => value <= most + 1e-9)
            : evenTicks(least, most, width / 90);
          for (const value of marks) {
            drawn("text", svg, {x: x(value), y: height - 8, "text-anchor": "middle"},
              xWords(value, spec.axis));
          }
          drawn("line", svg, {class: "axis", x1: left, x2: width - right, y1: height - bottom,
            y2: height - bottom});
          for (const one of [...spec.series].reverse()) {
            let path = "", pen = "M";
            const places = xOf(spec, one);
            one.y.forEach((value, index) => {
              const isOutside = spec.axis === "quantile" && places[index] >= 1;
              if (value === null || isOutside) { pen = "M"; return; }
              if (spec.step && pen === "L") path += `H${x(places[index]).toFixed(1)}`;
              path += `${pen}${x(places[index]).toFixed(1)},${y(value).toFixed(1)}`;
              pen = "L";
              if (!one.x) return;
              const dot = drawn("circle", svg, {cx: x(places[index]), cy: y(value), r: 3.2,
                style: `fill: var(--${one.color})`});
              const at = xWords(places[index], spec.axis);
              drawn("title", dot, {}, `${one.name}: ${at}, ${value.toFixed(2)}${spec.unit}`);
            });
            drawn("path", svg, {class: "line", d: path, style: `stroke: var(--${one.color})`});
          }
          if (spec.x.length) follow(spec, section, svg, x, width);
        }
        function follow(spec, section, svg, x, width) {
          const cursor = drawn("line", svg, {class: "cursor", y1: 8, y2: 204});
          const tip = element("div", section, {class: "tip"});
          const show = visible => {
            cursor.style.visibility = tip.style.visibility = visible ? "visible" : "hidden";
          };
          svg.addEventListener("pointerleave", () => show(false));
          svg.addEventListener("pointermove", event => {
            const box = svg.getBoundingClientRect();
            const at = (event.clientX - box.left) / box.width * width;
            let best = -1, distance = Infinity;
            spec.x.forEach((value, index) => {
              const away = Math.abs(x(value) - at);
              if (away < distance) { distance = away; best = index; }
            });
            if (best < 0) return;
            cursor.setAttribute("x1", x(spec.x[best]));
            cursor.setAttribute("x2", x(spec.x[best]));
            tip.textContent = xWords(spec.x[best], spec.axis) + "  ·  " + spec.series
              .map(one => `${one.name} ${words(one.y[best], spec.unit)}`).join("  ·  ");
            const room = section.clientWidth - tip.offsetWidth - 14;
            const wanted = x(spec.x[best]) / width * box.width + 20;
            tip.style.left = Math.max(8, Math.min(wanted, room)) + "px";
            tip.style.top = "44px";
            show(true);
          });
        }
        function table(spec, where) {
          const section = element("section", place(where));
          element("h2", section, {}, spec.title);
          const made = element("table", section);
          // Words stand left, and figures, with or without a unit, right under each other.
          const isFigure = /^([-+~<>≤≥]?\s?\d\S*(\s\S+)?|-?)$/;
          const isText = place => place === 0
            || spec.rows.slice(1).some(row => !isFigure.test(row[place] ?? ""));
          const kinds = (spec.rows[0] || []).map((_, place) => isText(place) ? "text" : "");
          spec.rows.forEach((row, index) => {
            const line = element("tr", made);
            row.forEach((cell, place) => {
              const mark = cell === "missed" || cell === "kept" ? cell : "";
              const kind = [kinds[place], mark].filter(Boolean).join(" ");
              element(index ? "td" : "th", line, kind ? {class: kind} : {}, cell);
            });
          });
        }
        document.title = data.title;
        place("title").textContent = data.title;
        place("subtitle").textContent =
          `${data.subtitle} · ${new Date(data.startedAt * 1000).toLocaleString()}`;
        if (data.invalid) {
          element("div", place("notes"), {class: "banner"}, "Invalid: " + data.invalid);
        }
        if (data.search) element("div", place("notes"), {class: "search"}, data.search);
        // As many in each row as in the others, as far as that goes.
        function layTiles() {
          const most = Math.max(1, Math.floor((place("tiles").clientWidth + 12) / 162));
          const rows = Math.ceil(data.tiles.length / most);
          place("tiles").style.gridTemplateColumns =
            `repeat(${Math.ceil(data.tiles.length / rows)}, 1fr)`;
        }
        layTiles();
        addEventListener("resize", layTiles);
        for (const tile of data.tiles) {
          const box = element("div", place("tiles"), {class: "tile"});
          element("span", box, {class: "dim"}, tile.name);
          element("b", box, tile.bad ? {class: "bad"} : {}, tile.value);
          element("span", box, {class: "dim"}, tile.note);
        }
        data.charts.forEach(chart);
        (data.summary || []).forEach(spec => table(spec, "summary"));
        data.tables.forEach(spec => table(spec, "tables"));
        </script>

        """#
}
