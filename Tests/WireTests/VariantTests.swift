import Proxy
import Testing

/// Which variant serves: weights, override, stickiness, mirror.
@Suite struct VariantTests {
    /// Serves variants that answer with their names.
    private func variants(
        _ wire: Wire,
        _ weights: [(String, Int)],
        limit: Int = .max
    ) throws -> [Wire.Variant] {
        try weights.map { name, weight in
            let upstream = try wire.upstream()
            upstream.serve { _, socket in try socket.respond(name) }
            return .init(
                name: name,
                weight: weight,
                endpoints: [wire.endpoint(upstream, limit: limit)]
            )
        }
    }

    /// How often each variant answered `count` requests.
    private func shares(
        _ wire: Wire,
        count: Int,
        fields: (Int) -> String = { _ in "" }
    ) throws -> [String: Int] {
        let client = try wire.client()
        var shares: [String: Int] = [:]
        for index in 0..<count {
            try client.send(Ask.get(fields: fields(index)))
            let response = try client.readResponse()
            #expect(response["x-weir-variant"] == response.text)
            shares[response.text, default: 0] += 1
        }
        return shares
    }

    @Test(arguments: [
        [("a", 70), ("b", 30), ("c", 0)], [("a", 1), ("b", 0), ("c", 0)],
        [("a", 99), ("b", 1), ("c", 0)], [("a", 1), ("b", 1), ("c", 1)],
    ])
    func weightsAreExact(_ weights: [(String, Int)]) throws {
        try Wire.run { wire in
            wire.publish([.init(variants: try self.variants(wire, weights))])
            let shares = try self.shares(wire, count: 300)
            let sum = weights.reduce(0) { $0 + $1.1 }
            for (name, weight) in weights {
                let expected = Double(300 * weight) / Double(sum)
                #expect(abs(Double(shares[name] ?? 0) - expected) <= 1, "\(name): \(shares)")
            }
        }
    }

    /// Also over two workers, which know nothing of each other's picks.
    @Test func weightsHoldOverWorkers() throws {
        try Wire.run(workers: 2) { wire in
            wire.publish([
                .init(variants: try self.variants(wire, [("a", 70), ("b", 30), ("c", 0)]))
            ])
            var shares: [String: Int] = [:]
            for _ in 0..<10 {
                for (name, count) in try self.shares(wire, count: 50) {
                    shares[name, default: 0] += count
                }
            }
            #expect(abs((shares["a"] ?? 0) - 350) <= 25)
            #expect(abs((shares["b"] ?? 0) - 150) <= 25)
            #expect(shares["c"] == nil)
        }
    }

    @Test func aReloadChangesTheWeights() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100), ("b", 0)]))
            wire.publish([model])
            #expect(try self.shares(wire, count: 50) == ["a": 50])
            model.variants[0].weight = 0
            model.variants[1].weight = 100
            wire.publish([model])
            #expect(try self.shares(wire, count: 50) == ["b": 50])
        }
    }

    @Test func theOverrideHeaderPicksAVariantWhateverItsWeight() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100), ("b", 0)]))
            model.settings.overrideHeader = Array("x-weir-variant".utf8)
            wire.publish([model])
            let pinned = try self.shares(wire, count: 20) { _ in "X-Weir-Variant: b\r\n" }
            #expect(pinned == ["b": 20])
            #expect(try self.shares(wire, count: 20) == ["a": 20])
            let response = try wire.fetch(Ask.get(fields: "X-Weir-Variant: c\r\n"))
            #expect(response.status == 400)
            #expect(response.text.contains("no variant `c`; there are a, b"))
        }
    }

    @Test func withoutTheSettingTheOverrideHeaderDoesNothing() throws {
        try Wire.run { wire in
            wire.publish([.init(variants: try self.variants(wire, [("a", 100), ("b", 0)]))])
            let shares = try self.shares(wire, count: 20) { _ in "X-Weir-Variant: b\r\n" }
            #expect(shares == ["a": 20])
        }
    }

    @Test func aStickyHeaderKeepsAClientOnItsVariant() throws {
        try Wire.run(workers: 2) { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 50), ("b", 50)]))
            model.settings.sticky = .header(Array("x-user-id".utf8))
            wire.publish([model])
            var seen: Set<String> = []
            for user in 0..<40 {
                let shares = try self.shares(wire, count: 5) { _ in "X-User-Id: user-\(user)\r\n" }
                #expect(shares.count == 1, "user \(user) saw \(shares)")
                seen.formUnion(shares.keys)
            }
            #expect(seen == ["a", "b"])
        }
    }

    @Test func aStickyCookieKeepsAClientOnItsVariant() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 50), ("b", 50)]))
            model.settings.sticky = .cookie(Array("weir-variant".utf8))
            wire.publish([model])
            let first = try wire.fetch(Ask.get())
            let cookie = try #require(first["set-cookie"])
            #expect(cookie.hasPrefix("weir-variant=\(first.text); Path=/"))
            for name in ["a", "b"] {
                let shares = try self.shares(wire, count: 10) { _ in
                    "Cookie: other=x; weir-variant=\(name)\r\n"
                }
                #expect(shares == [name: 10])
            }
            let known = try wire.fetch(Ask.get(fields: "Cookie: weir-variant=a\r\n"))
            #expect(known["set-cookie"] == nil)
            // A cookie of a variant that is no more is replaced.
            let stale = try wire.fetch(Ask.get(fields: "Cookie: weir-variant=z\r\n"))
            #expect(stale["set-cookie"]?.hasPrefix("weir-variant=\(stale.text)") == true)
        }
    }

    // MARK: Mirror

    @Test func mirrorsCopiesWhoseAnswersNobodySees() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100)]))
            let mirror = try wire.upstream()
            let copies = Counter()
            mirror.serve { message, socket in
                if message.text == "body", message.startLine.hasPrefix("POST /v2/models/m/infer") {
                    copies.add()
                }
                try socket.respond("from the mirror", status: "500 Oops")
            }
            model.variants.append(.init(name: "b", weight: 0, endpoints: [wire.endpoint(mirror)]))
            model.settings.mirror = (variant: 1, share: 0.5)
            wire.publish([model])
            let client = try wire.client()
            for _ in 0..<40 {
                try client.send(Ask.infer("m", "body"))
                let response = try client.readResponse()
                #expect(response.status == 200)
                #expect(response.text == "a")
            }
            try wire.wait(for: "the copies") { copies.value == 20 }
            try wire.wait(for: "their end") { $0.models["m"]?.variants[1].mirrored == 20 }
        }
    }

    /// A mirror that fails, hangs or is not there costs the client nothing.
    @Test func aMirrorThatNeverAnswersIsBoundedAndTouchesNobody() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100)]))
            let mirror = try wire.upstream()
            model.variants.append(.init(name: "b", weight: 0, endpoints: [wire.endpoint(mirror)]))
            model.settings.mirror = (variant: 1, share: 1)
            wire.publish([model])
            #expect(try self.shares(wire, count: 200) == ["a": 200])
            let statistics = try wire.statistics()
            let dropped = statistics.models["m"]?.variants[1].mirrorDropped ?? 0
            #expect(dropped > 0)
            #expect(statistics.models["m"]?.variants[1].inFlight == 200 - Int(dropped))
            #expect(200 - Int(dropped) <= 64)
            // Its end lets the copies go.
            var held: [RawSocket] = []
            while held.count < 200 - Int(dropped) { held.append(try mirror.accept()) }
            for socket in held { socket.reset() }
            try wire.wait(for: "the end of the copies") {
                $0.models["m"]?.variants[1].inFlight == 0
            }
        }
    }

    @Test func aMirrorThatRefusesConnectionsTouchesNobody() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100)]))
            let mirror = try wire.upstream(isListening: false)
            model.variants.append(.init(name: "b", weight: 0, endpoints: [wire.endpoint(mirror)]))
            model.settings.mirror = (variant: 1, share: 1)
            wire.publish([model])
            #expect(try self.shares(wire, count: 100) == ["a": 100])
            try wire.wait(for: "the end of the copies") {
                $0.models["m"]?.variants[1].inFlight == 0
            }
        }
    }

    /// What goes to the mirror never counts as an answer of the model.
    @Test func aSlowMirrorDoesNotHoldTheClientsConnection() throws {
        try Wire.run { wire in
            var model = Wire.Model(variants: try self.variants(wire, [("a", 100)]))
            let mirror = try wire.upstream()
            model.variants.append(.init(name: "b", weight: 0, endpoints: [wire.endpoint(mirror)]))
            model.settings.mirror = (variant: 1, share: 1)
            wire.publish([model])
            let client = try wire.client()
            try client.send(Ask.get(fields: "Connection: close\r\n"))
            #expect(try client.readResponse().text == "a")
            #expect(try client.waitForEnd() == .fin)
            let copy = try mirror.accept()
            _ = try copy.readRequest()
            try copy.respond("late")
        }
    }
}
