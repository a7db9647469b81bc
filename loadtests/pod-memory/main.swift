// How much memory a copy of many pods takes: `make bench-pods`.
//
// A server and an informer on one loop. The server writes pods of realistic size (labels, an
// owner, environment, volumes, conditions, statuses, two managers' fields), first as pages of a
// list, then as the stream of a WatchList, and holds none of them. What is counted is the whole
// process.

import Core
import Curl
import EventLoop
import Glibc
import HTTP
import HTTPService
import Kubernetes

let podCount = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 100_000 : 100_000

enum Memory {
    /// A line of /proc/self/status, in KiB.
    static func kibibytes(_ name: String) -> Int {
        // The kernel says 0 for the size: read as a stream.
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = line.withUnsafeBufferPointer {
                String(decoding: $0.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
            if text.hasPrefix(name + ":") {
                return text.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }.first ?? 0
            }
        }
        return 0
    }
}

enum PodText {
    private static func managed(_ manager: String, _ paths: Int) -> String {
        let fields = (0..<paths).map { #""f:field\#($0)":{".":{},"f:inner":{},"f:other":{}}"# }
        return #"{"manager":"\#(manager)","operation":"Update","apiVersion":"v1","time":"#
            + #""2026-11-21T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"#
            + fields.joined(separator: ",") + "}}"
    }

    private static let managedFields =
        "[" + managed("kube-controller-manager", 40) + "," + managed("kubelet", 25) + "]"
    private static let environment =
        "["
        + (0..<20).map { #"{"name":"SETTING_\#($0)","value":"a value of some length \#($0)"}"# }
        .joined(separator: ",") + "]"

    static func json(_ number: Int, version: Int) -> String {
        // Deployments of 50 replicas, on nodes of 20 pods.
        let model = number / 50
        let hash = String(UInt64(model) &* 0x9E37_79B9 % 0xFFFF_FFFF, radix: 36)
        let suffix = String(UInt64(number) &* 0x9E37_79B9_7F4A_7C15 >> 36, radix: 36)
        let owner = "model-server-\(model)-\(hash)"
        let uid = { (kind: Int) in
            let digits = String(UInt64(number * 4 + kind) &* 0x9E37_79B9_7F4A_7C15, radix: 16)
            let padded = String(repeating: "0", count: 16 - digits.count) + digits
            return "\(padded.prefix(8))-\(padded.suffix(4))-4a1b-9c2d-\(padded.prefix(12))"
        }
        let time = #""lastProbeTime":null,"lastTransitionTime":"2026-11-21T10:00:00Z""#
        let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map {
            #"{"type":"\#($0)","status":"True",\#(time)}"#
        }
        return #"""
            {"kind":"Pod","apiVersion":"v1","metadata":{"name":"\#(owner)-\#(suffix)",
            "generateName":"\#(owner)-","namespace":"team-\#(model % 40)-models",
            "uid":"\#(uid(0))","resourceVersion":"\#(version)",
            "creationTimestamp":"2026-11-21T10:00:00Z","labels":{
            "app.kubernetes.io/name":"model-server-\#(model)",
            "app.kubernetes.io/part-of":"inference-platform",
            "app.kubernetes.io/version":"2.\#(model % 30).1","pod-template-hash":"\#(hash)",
            "weir.dev/model":"model-\#(model)","weir.dev/variant":"stable"},
            "annotations":{"prometheus.io/port":"8000","prometheus.io/scrape":"true",
            "checksum/config":"8b1a9953c4611296a827abf8c47804d7e2f6a1b9c3d4e5f60718293a4b5c6d7e"},
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"\#(owner)",
            "uid":"\#(String(model, radix: 16))-replica-set-uid-of-36-chars",
            "controller":true,"blockOwnerDeletion":true}],"managedFields":\#(managedFields)},
            "spec":{"volumes":[{"name":"models","persistentVolumeClaim":{"claimName":"models"}},
            {"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":
            {"expirationSeconds":3607,"path":"token"}}],"defaultMode":420}}],
            "containers":[{"name":"server","image":"registry.example/vllm/vllm-openai:v0.11.0",
            "args":["--model","/models/\#(model)","--max-num-seqs","64"],
            "env":\#(environment),"resources":{"limits":{"cpu":"8","memory":"64Gi",
            "nvidia.com/gpu":"1"},"requests":{"cpu":"8","memory":"64Gi","nvidia.com/gpu":"1"}},
            "ports":[{"name":"http","containerPort":8000,"protocol":"TCP"}]}],
            "nodeName":"gpu-node-\#(number / 20).region-1.internal",
            "tolerations":[{"key":"nvidia.com/gpu","operator":"Exists","effect":"NoSchedule"}]},
            "status":{"phase":"Running","conditions":[\#(conditions.joined(separator: ","))],
            "hostIP":"10.1.\#(number / 256 % 256).\#(number % 256)",
            "podIP":"10.\#(number / 65_536).\#(number / 256 % 256).\#(number % 256)",
            "startTime":"2026-11-21T10:00:00Z","containerStatuses":[{"name":"server",
            "state":{"running":{"startedAt":"2026-11-21T10:00:10Z"}},"lastState":{},
            "ready":true,"restartCount":\#(number % 3),
            "image":"registry.example/vllm/vllm-openai:v0.11.0",
            "imageID":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID":"containerd://\#(uid(1))\#(uid(2))"}],"qosClass":"Guaranteed"}}
            """#.replacing("\n", with: "")
    }
}

/// Answers lists in pages, and watches with the state as a stream, as fast as it is read.
func answer(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
    let query = request.query ?? ""
    let isWatch = query.contains("watch=1")
    if isWatch, !query.contains("sendInitialEvents") {
        response.writeHead(contentType: "application/json")
        return response.flushHead()
    }
    response.writeHead(contentType: "application/json")
    if isWatch { return stream(response, from: 0) }
    let start =
        query.split(separator: "&").first { $0.hasPrefix("continue=") }
        .flatMap { Int($0.dropFirst(9)) } ?? 0
    let end = min(start + 500, podCount)
    let rest = end < podCount ? "\(end)" : ""
    response.write(
        #"{"kind":"PodList","metadata":{"resourceVersion":"900000000","continue":"\#(rest)"},"items":["#
    )
    for number in start..<end {
        response.write(
            (number > start ? "," : "") + PodText.json(number, version: 800_000_000 + number)
        )
    }
    response.write("]}")
    response.end()
}

func stream(_ response: ResponseWriter, from start: Int) {
    var number = start
    while number < podCount {
        let pod = PodText.json(number, version: 800_000_000 + number)
        let hasRoom = response.write(#"{"type":"ADDED","object":\#(pod)}"# + "\n")
        number += 1
        if !hasRoom {
            let next = number
            return response.onWritable { stream(response, from: next) }
        }
    }
    response.write(
        #"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"900000000","annotations":{"k8s.io/initial-events-end":"true"}}}}"#
            + "\n"
    )
}

func measure(_ loop: EventLoop, _ address: SocketAddress, usesWatchList: Bool) {
    var access = ClusterAccess(name: "bench", server: "http://\(address)")
    access.proxy = .none
    access.acceptsCompression = false
    var limits = ClientOptions()
    limits.limits.perSecond = 1_000_000
    limits.limits.burst = 1_000_000
    let client = KubernetesClient(
        loop: loop,
        access: access,
        surroundings: AccessSurroundings(environment: [:], read: LocalFile.read),
        options: limits
    )
    var options = ReflectorOptions()
    options.usesWatchList = usesWatchList
    options.initialTimeout = .seconds(3_600)
    var isSynced = false
    let before = Memory.kibibytes("VmRSS")
    let informer = Informer(client, .pods(), options: options)
    informer.handlers.onSynced = { isSynced = true }
    informer.handlers.onProblem = { print("problem: \($0)") }
    let start = loop.refreshNow()
    informer.start()
    while !isSynced { loop.turn(mayBlock: true) }
    let seconds = (loop.refreshNow() - start).secondsAsDouble
    // What was freed goes back to the system, as it does over time.
    let held = Memory.kibibytes("VmRSS")
    let peak = Memory.kibibytes("VmHWM")
    let how = usesWatchList ? "stream" : "pages"
    let rounded = (seconds * 10).rounded() / 10
    print(
        "\(how): \(informer.count) pods in \(rounded) s; resident before \(before / 1_024) MiB, "
            + "after \(held / 1_024) MiB, at most \(peak / 1_024) MiB"
    )
    informer.stop()
    client.close()
    while client.count > 0 { loop.turn(mayBlock: true) }
}

guard let address = SocketAddress("127.0.0.1:0"), let loop = try? EventLoop(),
    let server = try? HTTPServer(loop: loop, address: address, handler: answer)
else {
    print("the server cannot be started")
    exit(1)
}
print(
    "one pod as the server writes it: \(PodText.json(12_345, version: 800_012_345).utf8.count) bytes"
)
measure(
    loop,
    server.address,
    usesWatchList: CommandLine.arguments.dropFirst(2).first == "stream"
)
server.close()
