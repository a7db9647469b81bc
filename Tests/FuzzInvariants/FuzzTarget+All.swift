import TestSupport

extension FuzzTarget {
    package static let all: [FuzzTarget] = [
        FuzzTarget("RequestHead", seeds: { FramingCase.all.map(\.bytes) }) {
            ParserInvariants.requestHead($0)
        },
        FuzzTarget("ResponseHead", seeds: { ResponseCase.all.map(\.bytes) }) {
            ParserInvariants.responseHead($0)
        },
        FuzzTarget("ChunkedBody", seeds: { Self.bodies }) { ParserInvariants.chunkedBody($0) },
        FuzzTarget("Trailers", seeds: { TrailerInvariants.seeds }) {
            TrailerInvariants.violation($0)
        },
        FuzzTarget("HTTP2Fields", seeds: { HTTP2Invariants.fieldSeeds }) {
            HTTP2Invariants.fieldViolation($0)
        },
        FuzzTarget("HTTP2Connection", seeds: { HTTP2Invariants.connectionSeeds }) {
            HTTP2Invariants.connectionViolation($0)
        },
        FuzzTarget("HeaderValues", seeds: { HeaderValueInvariants.seeds }) {
            HeaderValueInvariants.violation($0)
        },
        FuzzTarget("GRPCMessages", seeds: { GRPCInvariants.seeds }) {
            GRPCInvariants.violation($0)
        },
        FuzzTarget("GRPCFields", inputBytesMax: 512, seeds: { GRPCInvariants.fieldSeeds }) {
            GRPCInvariants.fieldViolation($0)
        },
        FuzzTarget("Routing", seeds: { RoutingInvariants.seeds }) {
            RoutingInvariants.violation($0)
        },
        FuzzTarget("JSONKeys", seeds: { JSONKeyInvariants.seeds }) {
            JSONKeyInvariants.violation($0)
        },
        FuzzTarget("JSONCursor", seeds: { JSONCursorInvariants.seeds }) {
            JSONCursorInvariants.violation($0)
        },
        // Longer than the observer's longest line.
        FuzzTarget(
            "ResponseStream",
            inputBytesMax: 20_000,
            seeds: { ResponseStreamInvariants.seeds }
        ) { ResponseStreamInvariants.violation($0) },
        FuzzTarget("Exposition", seeds: { ExpositionInvariants.seeds }) {
            ExpositionInvariants.violation($0)
        },
        FuzzTarget("Watch", inputBytesMax: 8_192, seeds: { WatchInvariants.seeds }) {
            WatchInvariants.violation($0)
        },
        FuzzTarget("Credentials", inputBytesMax: 1_024, seeds: { CredentialInvariants.seeds }) {
            CredentialInvariants.violation($0)
        },
        FuzzTarget("RecordingSegment", seeds: { RecordingInvariants.segments }) {
            RecordingInvariants.segmentViolation($0)
        },
        FuzzTarget("RecordingBlock", seeds: { RecordingInvariants.blocks }) {
            RecordingInvariants.blockViolation($0)
        },
        FuzzTarget("ContentCoding", seeds: { CodingInvariants.seeds }) {
            CodingInvariants.violation($0)
        },
        FuzzTarget("AcceptedCodings", inputBytesMax: 256, seeds: { CodingInvariants.fields }) {
            CodingInvariants.fieldViolation($0)
        },
        FuzzTarget("SocketAddress", inputBytesMax: 64, seeds: { AddressInvariants.seeds }) {
            AddressInvariants.violation($0)
        },
        FuzzTarget(
            "Configuration",
            inputBytesMax: 16_384,
            seeds: { ConfigurationInvariants.seeds }
        ) { ConfigurationInvariants.violation($0) },
    ]

    private static var bodies: [[UInt8]] {
        let separator = Array("\r\n\r\n".utf8)
        return FramingCase.bodies.compactMap { framing in
            framing.bytes.firstRange(of: separator).map { Array(framing.bytes[$0.upperBound...]) }
        }
    }
}
