import Core
import Testing

@testable import Orchestration

@Suite struct EndpointTableTests {
    private static let http = EndpointSlice.Port(name: "http", number: 8_000)

    private func slice(
        _ key: String,
        _ endpoints: [EndpointSlice.Endpoint],
        family: EndpointSlice.Family = .ipv4,
        ports: [EndpointSlice.Port] = [Self.http]
    ) -> EndpointSlice {
        EndpointSlice(
            key: "ns/\(key)",
            service: "ns/chat",
            family: family,
            ports: ports,
            endpoints: endpoints
        )
    }

    private func pod(
        _ uid: String,
        _ address: String = "10.0.0.1",
        ready: Bool? = nil,
        serving: Bool? = nil,
        terminating: Bool? = nil
    ) -> EndpointSlice.Endpoint {
        EndpointSlice.Endpoint(
            addresses: [address],
            ready: ready,
            serving: serving,
            terminating: terminating,
            podUID: uid,
            podName: "pod-\(uid)"
        )
    }

    private func endpoints(
        _ slices: [EndpointSlice],
        port: PortChoice = .automatic
    ) -> [PodEndpoint] {
        var table = EndpointTable()
        for slice in slices { _ = table.put(slice) }
        return table.endpoints(of: "ns/chat", port: port)
    }

    /// All 27 combinations of the three conditions, each of which may be missing.
    @Test(arguments: [nil, true, false] as [Bool?], [nil, true, false] as [Bool?])
    func takesMissingConditionsAsTheApiDefinesThem(ready: Bool?, serving: Bool?) {
        for terminating in [nil, true, false] as [Bool?] {
            let endpoint = self.pod(
                "a",
                ready: ready,
                serving: serving,
                terminating: terminating
            )
            let expected: EndpointCondition =
                if terminating == true {
                    .terminating
                } else if let ready {
                    ready ? .ready : .notReady
                } else if serving == false {
                    .notReady
                } else {
                    .ready
                }
            #expect(self.endpoints([self.slice("s", [endpoint])]).map(\.condition) == [expected])
        }
    }

    @Test func countsAPodInTwoSlicesOnce() {
        let table = self.endpoints([
            self.slice("s1", [self.pod("a"), self.pod("b", "10.0.0.2")]),
            self.slice("s2", [self.pod("b", "10.0.0.2"), self.pod("c", "10.0.0.3")]),
        ])
        #expect(table.map(\.identity) == ["a", "b", "c"])
        #expect(table.map(\.name) == ["pod-a", "pod-b", "pod-c"])
    }

    @Test(arguments: EndpointCondition.allCases, EndpointCondition.allCases)
    func believesTheSliceThatLosesNoRequest(_ left: EndpointCondition, _ right: EndpointCondition) {
        func endpoint(_ condition: EndpointCondition) -> EndpointSlice.Endpoint {
            self.pod("a", ready: condition == .ready, terminating: condition == .terminating)
        }
        let table = self.endpoints([
            self.slice("s1", [endpoint(left)]), self.slice("s2", [endpoint(right)]),
        ])
        #expect(table.map(\.condition) == [max(left, right)])
    }

    @Test func usesTheFirstFamilyOfAPodWithTwo() {
        let six = self.slice("a6", [self.pod("a", "fd00::1")], family: .ipv6)
        let four = self.slice("z4", [self.pod("a", "10.0.0.1")])
        #expect(self.endpoints([six, four]).map(\.address) == ["10.0.0.1"])
        #expect(self.endpoints([four, six]).map(\.address) == ["10.0.0.1"])
        #expect(self.endpoints([six]).map(\.address) == ["fd00::1"])
    }

    @Test func leavesNamesAndEmptyEndpointsOut() {
        let names = self.slice("s1", [self.pod("a", "a.example")], family: .fqdn)
        let empty = self.slice("s2", [EndpointSlice.Endpoint(addresses: [], podUID: "b")])
        #expect(self.endpoints([names, empty]).isEmpty)
    }

    @Test func tellsEndpointsWithoutPodsApartByAddress() {
        let table = self.endpoints([
            self.slice(
                "s",
                [
                    EndpointSlice.Endpoint(addresses: ["10.0.0.1"]),
                    EndpointSlice.Endpoint(addresses: ["10.0.0.2", "10.0.0.9"]),
                    EndpointSlice.Endpoint(addresses: ["10.0.0.1"]),
                ]
            )
        ])
        #expect(table.map(\.identity) == ["10.0.0.1:8000", "10.0.0.2:8000"])
    }

    @Test func choosesThePort() {
        let ports = [
            EndpointSlice.Port(name: "dns", number: 53, isTCP: false),
            EndpointSlice.Port(name: "metrics", number: 9_100),
            EndpointSlice.Port(name: "http", number: 8_000),
            EndpointSlice.Port(name: "any", number: nil),
        ]
        #expect(PortChoice.automatic.number(in: ports) == 8_000)
        #expect(PortChoice.automatic.number(in: [ports[0], ports[1]]) == 9_100)
        #expect(PortChoice.automatic.number(in: [ports[0]]) == nil)
        #expect(PortChoice.name("metrics").number(in: ports) == 9_100)
        #expect(PortChoice.name("dns").number(in: ports) == nil)
        #expect(PortChoice.name("any").number(in: ports) == nil)
        #expect(PortChoice.number(7_000).number(in: ports) == 7_000)
    }

    @Test(arguments: [0, -1, 65_536])
    func leavesOutPortsThatAreNone(_ number: Int) {
        let ports = [EndpointSlice.Port(number: number)]
        #expect(self.endpoints([self.slice("s", [self.pod("a")], ports: ports)]).isEmpty)
    }

    @Test func saysWhichServicesChanged() {
        var table = EndpointTable()
        let first = self.slice("s", [self.pod("a")])
        #expect(table.put(first) == ["ns/chat"])
        #expect(table.put(first) == [])
        var moved = first
        moved.service = "ns/other"
        #expect(table.put(moved) == ["ns/chat", "ns/other"])
        #expect(!table.hasService("ns/chat"))
        var lost = first
        lost.service = ""
        #expect(table.put(lost) == ["ns/other"])
        #expect(table.remove("ns/s") == [])
        #expect(table.remove("ns/s") == [])
        #expect(table.sliceCount == 0)
    }

    @Test func holdsNoMoreEndpointsThanItsLimit() {
        var table = EndpointTable()
        for number in 0..<12 {
            let pods = (0..<1_001).map { self.pod("\(number)-\($0)", "10.\(number).0.1") }
            _ = table.put(self.slice("s\(number)", pods))
        }
        let endpoints = table.endpoints(of: "ns/chat", port: .automatic)
        #expect(endpoints.count == EndpointTable.endpointsMax)
        #expect(!endpoints.contains { $0.identity.hasSuffix("-1000") })
    }

    /// A table fed by random events equals one that is fed the final slices, and the differences
    /// between its states add up to that.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func differencesAddUp(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var table = EndpointTable()
        var slices: [String: EndpointSlice] = [:]
        var known: [String: PodEndpoint] = [:]
        var last: [PodEndpoint] = []
        for _ in 0..<2_000 {
            let key = "s\(Int.random(in: 0..<5, using: &random))"
            if Int.random(in: 0..<4, using: &random) == 0 {
                table.remove("ns/\(key)")
                slices[key] = nil
            } else {
                let pods = (0..<6).filter { _ in Bool.random(using: &random) }.map {
                    self.pod(
                        "p\($0)",
                        "10.0.0.\($0)",
                        ready: [nil, true, false].randomElement(using: &random) ?? nil,
                        terminating: [nil, true, false].randomElement(using: &random) ?? nil
                    )
                }
                slices[key] = self.slice(key, pods)
                _ = table.put(self.slice(key, pods))
            }
            let now = table.endpoints(of: "ns/chat", port: .automatic)
            for change in EndpointChange.between(last, now) {
                switch change {
                case .added(let endpoint):
                    #expect(known.updateValue(endpoint, forKey: endpoint.identity) == nil)
                case .changed(let from, let to):
                    #expect(from != to)
                    #expect(known.updateValue(to, forKey: to.identity) == from)
                case .removed(let endpoint):
                    #expect(known.removeValue(forKey: endpoint.identity) == endpoint)
                }
            }
            last = now
            let fresh = self.endpoints(Array(slices.values))
            #expect(fresh == now, "seed \(seed)")
            #expect(known.values.sorted { $0.identity < $1.identity } == now, "seed \(seed)")
        }
    }
}
