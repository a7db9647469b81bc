import Core
import Curl
import EventLoop
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

@Suite struct ClientTests {
    static let key = ObjectKey(namespace: "a", name: "x")

    // MARK: What is sent

    @Test func namesItselfAndItsCredential() throws {
        let scene = try Scene(change: { access, options in
            access.authentication = .token("secret")
            var who = Impersonation(user: "jane")
            who.groups = ["admins"]
            who.uid = "7"
            access.impersonation = who
            options.component = "controller"
        }) { $1.respond(item("x", 1)) }
        let object = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.get()
        #expect(object.metadata.name == "x" && object.spec["value"].integer == 0)
        let seen = scene.requests[0]
        #expect(seen.method == "GET" && seen.path == "/api/v1/namespaces/a/pods/x")
        #expect(seen.fields["authorization"] == "Bearer secret")
        #expect(seen.fields["accept"] == "application/json")
        #expect(
            seen.fields["user-agent"]
                == "weir/\(WeirVersion.current) (linux/\(KubernetesClient.architecture)) controller"
        )
        #expect(seen.fields["impersonate-user"] == "jane")
        #expect(seen.fields["impersonate-group"] == "admins")
        #expect(seen.fields["impersonate-uid"] == "7")
    }

    @Test func sendsBasicCredentials() throws {
        let scene = try Scene(change: { access, _ in
            access.authentication = .basic(user: "Aladdin", password: "open sesame")
        }) { $1.respond(item("x", 1)) }
        _ = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.get()
        // RFC 7617, section 2.
        #expect(
            scene.requests[0].fields["authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        )
    }

    @Test func escapesWhatGoesIntoPathsAndQueries() throws {
        let scene = try Scene { $1.respond(page([], 1)) }
        var options = ListOptions(namespace: "a/b")
        options.labelSelector = "app in (x, y),!z"
        options.fieldSelector = "spec.nodeName=n1"
        _ = try scene.result { scene.client.list(.deployments, options, completion: $0) }.get()
        let seen = scene.requests[0]
        #expect(seen.path == "/apis/apps/v1/namespaces/a%2Fb/deployments")
        #expect(seen.query["labelSelector"] == "app in (x, y),!z")
        #expect(seen.query["fieldSelector"] == "spec.nodeName=n1")
        #expect(seen.query["limit"] == "500" && seen.query["resourceVersion"] == nil)
    }

    @Test func writesWhatItIsTold() throws {
        let scene = try Scene { $1.respond(item("x", 2)) }
        let client = scene.client
        let object = KubernetesObject(item("x", 1))
        let calls: [(@escaping KubernetesClient.Completion<KubernetesObject>) -> Void] = [
            { client.create(.pods, object, completion: $0) },
            { client.update(.pods, object, subresource: "status", completion: $0) },
            { client.patch(.pods, Self.key, ["spec": nil], completion: $0) },
            {
                let patch: JSONValue = [["op": "remove", "path": "/spec"]]
                client.patch(.pods, Self.key, patch, as: .json, completion: $0)
            },
            { client.patch(.pods, Self.key, [:], as: .strategicMerge, completion: $0) },
            { client.apply(.pods, object, manager: "weir", force: false, completion: $0) },
            { client.apply(.pods, object, manager: "weir", force: true, completion: $0) },
            {
                var options = DeleteOptions()
                options.propagation = .foreground
                options.uid = "u"
                options.resourceVersion = ResourceVersion("5")
                client.delete(.pods, Self.key, options, completion: $0)
            },
            { client.evict(pod: Self.key, completion: $0) },
        ]
        for call in calls { _ = try scene.result { call($0) }.get() }
        let path = "/api/v1/namespaces/a/pods/x"
        #expect(
            scene.requests.map { "\($0.method) \($0.path)" } == [
                "POST /api/v1/namespaces/a/pods", "PUT \(path)/status", "PATCH \(path)",
                "PATCH \(path)", "PATCH \(path)", "PATCH \(path)", "PATCH \(path)",
                "DELETE \(path)", "POST \(path)/eviction",
            ]
        )
        #expect(
            scene.requests.map { $0.fields["content-type"] ?? "" } == [
                "application/json", "application/json", "application/merge-patch+json",
                "application/json-patch+json", "application/strategic-merge-patch+json",
                "application/apply-patch+yaml", "application/apply-patch+yaml",
                "application/json", "application/json",
            ]
        )
        #expect(scene.requests[2].json == ["spec": nil])
        #expect(scene.requests[5].query == ["fieldManager": "weir"])
        #expect(scene.requests[6].query == ["fieldManager": "weir", "force": "true"])
        #expect(
            scene.requests[7].json == [
                "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
                "preconditions": ["uid": "u", "resourceVersion": "5"],
            ]
        )
        #expect(scene.requests[8].json["kind"] == "Eviction")
    }

    /// B.17: a stale scale is refused, read again, and written again.
    @Test func aStaleScaleIsAConflict() throws {
        var replicas = 3
        var version = 8
        let scene = try Scene { request, response in
            let asked = request.json["metadata"]["resourceVersion"].string
            if request.method == "PUT" {
                guard asked == "\(version)" else {
                    return response.refuse(409, reason: "Conflict", message: "changed")
                }
                replicas = request.json["spec"]["replicas"].integer ?? -1
                version += 1
            }
            response.respond([
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": [
                    "name": "x", "namespace": "a", "uid": "u",
                    "resourceVersion": .string("\(version)"),
                ],
                "spec": ["replicas": .integer(replicas)],
                "status": ["replicas": 2, "selector": "app=x"],
            ])
        }
        let client = scene.client
        var scale = try scene.result {
            client.scale(of: .deployments, Self.key, completion: $0)
        }.get()
        #expect(scale.replicas == 3 && scale.currentReplicas == 2 && scale.selector == "app=x")
        version = 9
        let refused = try scene.result {
            client.setScale(of: .deployments, scale, replicas: 5, completion: $0)
        }
        #expect(refused.error?.isConflict == true && replicas == 3)
        scale = try scene.result {
            client.scale(of: .deployments, Self.key, completion: $0)
        }.get()
        scale = try scene.result {
            client.setScale(of: .deployments, scale, replicas: 5, completion: $0)
        }.get()
        #expect(scale.replicas == 5 && replicas == 5)
        #expect(scene.requests[1].path == "/apis/apps/v1/namespaces/a/deployments/x/scale")
        #expect(scene.requests[1].json["metadata"]["uid"] == "u")
    }

    // MARK: Refusals

    @Test func tellsWhyTheServerRefused() throws {
        let scene = try Scene { _, response in
            response.respond(
                [
                    "kind": "Status", "reason": "Conflict", "message": "Apply failed", "code": 409,
                    "details": [
                        "name": "x", "kind": "pods",
                        "causes": [
                            [
                                "reason": "FieldManagerConflict",
                                "message": "conflict with \"kubectl\"", "field": ".spec.replicas",
                            ]
                        ],
                    ],
                ],
                status: 409
            )
        }
        let object = KubernetesObject(item("x", 1))
        let error = try #require(
            try scene.result {
                scene.client.apply(.pods, object, manager: "w", force: false, completion: $0)
            }.error
        )
        let status = try #require(error.status)
        #expect(status.isFieldManagerConflict && status.isConflict && !status.isAlreadyExists)
        #expect(error.isWithoutEffect)
        #expect(
            "\(error)" == "PATCH /api/v1/namespaces/a/pods/x: 409 Conflict: Apply failed "
                + "(.spec.replicas: conflict with \"kubectl\")"
        )
    }

    @Test func understandsRefusalsThatAreNoStatus() throws {
        let scene = try Scene { _, response in
            response.respond(status: 502, contentType: "text/html", text: "<h1>bad\n gateway</h1>")
        }
        let error = try #require(
            try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        )
        #expect(error.status?.code == 502)
        #expect(error.status?.message == "<h1>bad gateway</h1>")
    }

    @Test func refusesAnswersThatAreNoObject() throws {
        let scene = try Scene { $1.respond(contentType: "text/plain", text: "{\"a\":") }
        let error = try #require(
            try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        )
        guard case .malformed = error.kind else {
            Issue.record("\(error)")
            return
        }
    }

    /// B.17: waits as the server says and asks again.
    @Test(arguments: [429, 500, 503])
    func asksAgainWhenTheServerSaysWhen(code: Int) throws {
        var rest = 3
        let scene = try Scene { _, response in
            rest -= 1
            if rest >= 0 { return response.refuse(code, retryAfter: "0") }
            response.respond(item("x", 1))
        }
        _ = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.get()
        #expect(scene.requests.count == 4)
    }

    @Test func doesNotAskAgainWithoutBeingTold() throws {
        let scene = try Scene { $1.refuse(500) }
        let error = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        #expect(error?.status?.code == 500)
        #expect(scene.requests.count == 1)
    }

    @Test func givesUpAfterTenTries() throws {
        let scene = try Scene { $1.refuse(429, retryAfter: "0") }
        let error = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        #expect(error?.status?.isTooManyRequests == true)
        #expect(scene.requests.count == 11)
    }

    /// A wait beyond the deadline is the caller's to plan with.
    @Test func handsOnAWaitThatIsTooLong() throws {
        let scene = try Scene { $1.refuse(429, retryAfter: "61") }
        let error = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        #expect(error?.status?.retryAfter == .seconds(61))
        #expect(scene.requests.count == 1)
    }

    // MARK: Connections

    @Test func readsAgainOverALostConnection() throws {
        var rest = 2
        let scene = try Scene { _, response in
            rest -= 1
            if rest >= 0 { return response.abort() }
            response.respond(item("x", 1))
        }
        _ = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.get()
        #expect(scene.requests.count == 3)
    }

    /// Nobody knows whether the first one was done.
    @Test func doesNotWriteAgainOverALostConnection() throws {
        let scene = try Scene { $1.abort() }
        let object = KubernetesObject(item("x", 1))
        let result = try scene.result { scene.client.create(.pods, object, completion: $0) }
        #expect(result.error.map { $0.isWithoutEffect } == false)
        #expect(scene.requests.count == 1)
    }

    @Test func saysThatNobodyListens() throws {
        let scene = try Scene { $1.notFound() }
        scene.server.close()
        let error = try #require(
            try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.error
        )
        #expect(error.isWithoutEffect)
        #expect("\(error)".contains("cannot connect"))
    }

    @Test func endsByItsDeadline() throws {
        let scene = try Scene { _, _ in }
        var call = APICall("GET", "/api/v1/pods")
        call.timeout = .seconds(600)
        call.deadline = .milliseconds(20)
        let error = try scene.result { scene.client.send(call, completion: $0) }.error
        guard case .deadlineExceeded(.milliseconds(20)) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// With HTTP/2, the next call would go to the same dead connection.
    @Test func usesAnotherConnectionAfterATimeout() throws {
        var isDead = true
        let scene = try Scene { _, response in
            if isDead { return }
            response.respond(item("x", 1))
        }
        var call = APICall("GET", "/api/v1/pods")
        call.timeout = .milliseconds(20)
        #expect(try scene.result { scene.client.send(call, completion: $0) }.error != nil)
        isDead = false
        _ = try scene.result { scene.client.get(.pods, Self.key, completion: $0) }.get()
        #expect(scene.server.counts.accepted == 2)
    }

    @Test func cancelsOnceAndForAll() throws {
        let scene = try Scene { _, _ in }
        var errors: [APIError] = []
        let handle = scene.client.get(.pods, Self.key) { result in
            if let error = result.error { errors.append(error) }
        }
        try scene.run(until: "the request") { scene.requests.count == 1 }
        handle.cancel()
        handle.cancel()
        #expect(errors.isEmpty)
        try scene.run(until: "the end") { !errors.isEmpty }
        scene.harness.settle()
        #expect(errors.count == 1 && errors[0].isCancelled && scene.client.count == 0)
    }

    @Test func closingEndsWhatIsUnderWay() throws {
        let scene = try Scene(change: { _, options in options.limits.burst = 1 }) { _, _ in }
        var ends = 0
        for _ in 0..<5 {
            scene.client.get(.pods, Self.key) { result in
                #expect(result.error?.isCancelled == true)
                ends += 1
            }
        }
        scene.harness.settle()
        scene.client.close()
        try scene.run(until: "all ends") { ends == 5 }
    }

    // MARK: The rate limit

    @Test func holdsBackWhatIsTooMuchAndRefusesWhatWaitsTooMuch() throws {
        let scene = try Scene(change: { _, options in
            options.limits.perSecond = 1_000
            options.limits.burst = 2
            options.limits.waitingMax = 3
        }) { $1.respond(item("x", 1)) }
        var results: [Result<KubernetesObject, APIError>] = []
        for _ in 0..<8 { scene.client.get(.pods, Self.key) { results.append($0) } }
        try scene.run(until: "all answers") { results.count == 8 }
        let refused = results.compactMap(\.error)
        #expect(refused.count == 3)
        for error in refused {
            guard case .overloaded(waitingMax: 3) = error.kind else {
                Issue.record("\(error)")
                continue
            }
        }
        #expect(scene.requests.count == 5)
    }

    @Test func urgentCallsDoNotWait() throws {
        let scene = try Scene(change: { _, options in
            options.limits.perSecond = 0.001
            options.limits.burst = 1
        }) { $1.respond(item("x", 1)) }
        scene.client.get(.pods, Self.key) { _ in }
        scene.client.get(.pods, Self.key) { _ in }
        var call = APICall("GET", "/urgent")
        call.isUrgent = true
        _ = try scene.result { scene.client.send(call, completion: $0) }.get()
        #expect(scene.requests.map(\.path).contains("/urgent"))
        #expect(scene.requests.count == 2)
    }

    // MARK: Lists

    @Test func readsAllPages() throws {
        let scene = try Scene { request, response in
            let start = Int(request.query["continue"] ?? "0") ?? 0
            let items = (start..<min(start + 2, 5)).map { item("x\($0)", $0 + 1) }
            response.respond(page(items, 9, continueToken: start < 4 ? "\(start + 2)" : ""))
        }
        var options = ListOptions(namespace: "a")
        options.limit = 2
        let list = try scene.result { scene.client.listAll(.pods, options, completion: $0) }.get()
        #expect(list.items.map(\.metadata.name) == ["x0", "x1", "x2", "x3", "x4"])
        #expect(list.resourceVersion == ResourceVersion("9") && list.continueToken == nil)
        #expect(scene.requests.map { $0.query["limit"] } == ["2", "2", "2"])
    }

    /// B.17: HTTP 410 on a continue token begins the list anew.
    @Test func beginsTheListAnewAfter410() throws {
        var hasExpired = false
        let scene = try Scene { request, response in
            if request.query["continue"] != nil {
                hasExpired = true
                return response.refuse(410, reason: "Expired")
            }
            let rest = hasExpired ? "" : "next"
            response.respond(page([item("x", 1)], 9, continueToken: rest))
        }
        let list = try scene.result {
            scene.client.listAll(.pods, ListOptions(), completion: $0)
        }.get()
        #expect(list.items.count == 1)
        #expect(scene.requests.map { $0.query["limit"] } == ["500", "500", nil])
    }
}
