import Core
import HTTP
import Proxy
import Testing

/// Where a request goes, by header, path and body; and what the gateway answers itself.
@Suite struct RoutingTests {
    /// Two models with a replica each; says which one got the request, or the gateway's answer.
    private func route(
        _ request: String,
        limits: GatewayLimits = GatewayLimits(),
        check: (Message) throws -> Void = { _ in }
    ) throws -> String {
        var result = ""
        try Wire.run(limits: limits) { wire in
            var models: [Wire.Model] = []
            for name in ["alpha", "beta"] {
                let upstream = try wire.upstream()
                upstream.serve { message, socket in
                    try socket.respond("\(name):\(message.text)")
                }
                models.append(
                    .init(
                        name: name,
                        variants: [.init(endpoints: [wire.endpoint(upstream)])],
                        aliases: ["also/\(name)"]
                    )
                )
            }
            models[1].settings.kind = .http
            models[1].prefix = "/score"
            models[1].host = "*.beta.example"
            wire.publish(models)
            let response = try wire.fetch(request)
            try check(response)
            result =
                response.status == 200
                ? String(response.text.prefix { $0 != ":" }) : "\(response.status)"
        }
        return result
    }

    @Test(arguments: [
        ("GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: alpha\r\n\r\n", "alpha"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX-Gateway-Model-Name: beta\r\n\r\n", "beta"),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Gateway-Model-Name: beta\r\nX-Weir-Model: alpha\r\n\r\n",
            "alpha"
        ),
        ("GET /v2/models/beta/ready HTTP/1.1\r\nHost: h\r\nX-Weir-Model: alpha\r\n\r\n", "alpha"),
        ("GET /v1/models HTTP/1.1\r\nHost: h\r\nX-Weir-Model: alpha\r\n\r\n", "alpha"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: ALPHA\r\n\r\n", "404"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: \r\n\r\n", "404"),
    ])
    func byHeader(_ request: String, _ expected: String) throws {
        #expect(try self.route(request) == expected)
    }

    @Test(arguments: [
        ("/v2/models/alpha/infer", "alpha"), ("/v2/models/alpha/versions/3/infer", "alpha"),
        ("/v2/models/alpha", "alpha"), ("/v2/models/%61lpha/infer", "alpha"),
        ("/v2/models/also%2Fbeta/infer", "beta"), ("/v1/models/beta:predict", "beta"),
        ("/v1/models/alpha", "alpha"), ("/v2/models/gamma/infer", "404"),
        ("/v2/models/%zz/infer", "404"), ("/v2/models/ALPHA/infer", "404"),
        ("/elsewhere", "404"),
    ])
    func byPath(_ path: String, _ expected: String) throws {
        let result = try self.route("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(result == expected)
    }

    @Test(arguments: [
        ("/score", "x.beta.example", "beta"), ("/score/a?b", "X.BETA.example:80", "beta"),
        ("/scores", "x.beta.example", "404"), ("/score", "beta.example", "404"),
        ("/", "x.beta.example", "404"),
    ])
    func byHostAndPath(_ path: String, _ host: String, _ expected: String) throws {
        let result = try self.route("GET \(path) HTTP/1.1\r\nHost: \(host)\r\n\r\n")
        #expect(result == expected)
    }

    @Test(arguments: [
        (#"{"model":"alpha","messages":[]}"#, "alpha"),
        (
            #"{"messages":[{"model":"beta","content":"\"model\":\"beta\""}],"model":"alpha"}"#,
            "alpha"
        ),
        (#" { "a" : {"model":"beta"} , "m\u006Fdel" : "\u0061lph\u0061" } "#, "alpha"),
        (#"{"model":"also\/beta"}"#, "beta"),
        (#"{"model":17}"#, "400"), (#"{"model":null}"#, "400"), (#"{"model":["alpha"]}"#, "400"),
        (#"{"model":""}"#, "404"), (#"{"messages":[]}"#, "400"), ("", "400"), ("[]", "400"),
        (#"{"model":"alpha""#, "400"), (#"{"model":"alpha"} trailing"#, "400"),
        (#"{"Model":"alpha"}"#, "400"), (#"{model:"alpha"}"#, "400"), (#""alpha""#, "400"),
        (#"{"model":"gamma"}"#, "404"),
    ])
    func byBody(_ body: String, _ expected: String) throws {
        #expect(try self.route(Ask.chat(body)) == expected, "\(body)")
    }

    /// Twice the key: both must not be right, and the replica reads one of them.
    @Test func takesOneOfTwoModelsAndRefusesNeitherSilently() throws {
        let result = try self.route(Ask.chat(#"{"model":"alpha","model":"beta"}"#))
        #expect(["alpha", "beta", "400"].contains(result))
    }

    @Test func refusesBodiesThatAreNotUTF8OrTooDeep() throws {
        let deep = "{\"a\":" + String(repeating: "[", count: 100_000)
        #expect(try self.route(Ask.chat(deep)) == "400")
        let body: [UInt8] = Array(#"{"model":"al"#.utf8) + [0xFF, 0xFE] + Array(#"pha"}"#.utf8)
        try Wire.run { wire in
            let client = try wire.client()
            try client.send(
                "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.count)\r\n\r\n"
            )
            try client.send(body)
            let status = try client.readResponse().status
            #expect([400, 404].contains(status))
        }
    }

    /// The model's name in the last bytes of a body that comes byte by byte: every byte arrives.
    @Test func findsTheModelWhereverItStandsAndForwardsTheOriginalBytes() throws {
        try Wire.one { wire, upstream in
            let filler = String(repeating: "ä", count: 50_000)
            for body in [
                #"{"model":"m","x":"\#(filler)"}"#, #"{"x":"\#(filler)","model":"m"}"#,
                #"{"x":"\#(filler)","model":"m","y":"\#(filler)"}"#,
            ] {
                let client = try wire.client()
                try client.send(Ask.chat(body))
                let server = try upstream.accept()
                let request = try server.readRequest()
                #expect(request.body.elementsEqual(body.utf8))
                try server.respond(fields: "Connection: close\r\n")
                #expect(try client.readResponse().status == 200)
            }
            let client = try wire.client()
            for byte in Ask.chat(#"{"x":[1,2,{"y":null}],"model":"m"}"#).utf8 {
                try client.send([byte])
            }
            let server = try upstream.accept()
            #expect(try server.readRequest().text == #"{"x":[1,2,{"y":null}],"model":"m"}"#)
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    /// Over the limit the model must be named elsewhere; under it the body is searched.
    @Test func refusesToSearchBodiesOverTheLimit() throws {
        var limits = GatewayLimits()
        limits.maxBufferedBody = 64 * 1024
        let filler = String(repeating: "x", count: 300_000)
        let late = #"{"x":"\#(filler)","model":"alpha"}"#
        let result = try self.route(Ask.chat(late), limits: limits) { response in
            #expect(response.text.contains("x-weir-model"))
        }
        #expect(result == "413")
        #expect(
            try self.route(Ask.chat(#"{"model":"alpha","x":"\#(filler)"}"#), limits: limits)
                == "alpha"
        )
        #expect(
            try self.route(Ask.chat(late, fields: "X-Weir-Model: beta\r\n"), limits: limits)
                == "beta"
        )
    }

    // MARK: Unknown models

    @Test func namesTheModelsThereAreInEachAPIsOwnShape() throws {
        _ = try self.route(Ask.chat(#"{"model":"gam\"ma"}"#)) { response in
            #expect(response.status == 404)
            #expect(response["content-type"] == "application/json")
            #expect(response.text.hasPrefix(#"{"error":{"message":"There is no model `gam\"ma`"#))
            #expect(response.text.contains("alpha, beta"))
            #expect(response.text.contains(#""code":"model_not_found""#))
            #expect(response["x-request-id"] != nil)
        }
        _ = try self.route(Ask.infer("gamma")) { response in
            #expect(response.text.hasPrefix(#"{"error":"There is no model `gamma`"#))
            #expect(response["content-type"] == "application/json")
            #expect(response["x-request-id"] != nil)
        }
        _ = try self.route(Ask.get(model: "gamma")) { response in
            #expect(response["content-type"] == "text/plain; charset=utf-8")
            #expect(response.text.contains("alpha, beta"))
        }
    }

    /// An error keeps the connection where what is left of the request is known.
    @Test func keepsTheConnectionAfterAnUnknownModel() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            for _ in 0..<10 {
                try client.send(Ask.infer("nobody", "some body"))
                #expect(try client.readResponse().status == 404)
            }
            try client.send(Ask.infer())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }

    // MARK: The fleet

    @Test func answersForTheFleet() throws {
        try Wire.run { wire in
            let ready = try wire.upstream()
            wire.publish([
                .init(name: "a", variants: [.init(endpoints: [wire.endpoint(ready)])]),
                .init(name: "b", variants: [.init(endpoints: [])]),
            ])
            let list = try wire.fetch("GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(list.text.contains(#"{"id":"a","object":"model""#))
            #expect(list.text.contains(#"{"id":"b","object":"model""#))
            let server = try wire.fetch("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(server.text.contains(#""name":"weir","version":"\#(WeirVersion.current)""#))
            let live = try wire.fetch("GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(live.status == 200)
            let index = try wire.fetch(
                "POST /v2/repository/index HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
            )
            #expect(index.text.contains(#"{"name":"a","state":"READY"}"#))
            #expect(index.text.contains(#"{"name":"b","state":"UNAVAILABLE""#))
            let head = try wire.fetch("HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\n", to: "HEAD")
            #expect(head["content-length"] == "\(list.body.count)")
        }
    }

    /// A body that nobody needs is not kept: this one is larger than what may be buffered.
    @Test func doesNotKeepBodiesOfRequestsItAnswersItself() async {
        // In a process of its own: other tests would share its memory.
        await #expect(processExitsWith: .success) {
            try Wire.run { wire in
                let before = try Memory.resident()
                let client = try wire.client()
                let size = 200 * 1024 * 1024
                try client.send(
                    "POST /v2/repository/index HTTP/1.1\r\nHost: h\r\nContent-Length: \(size)\r\n\r\n"
                )
                do { _ = try client.sendUntilBlocked(limit: size) } catch WireError.reset {}
                #expect(try Memory.resident() - before < 32 * 1024 * 1024)
            }
        }
    }
}
