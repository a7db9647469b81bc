/// What a gateway has to know of gRPC, as values: statuses, deadlines, the framing of messages, and
/// the little of a message's content that says where a call goes.
///
/// Purpose: treat a call (gRPC over HTTP/2, `PROTOCOL-HTTP2.md` of the gRPC project) as what it is
/// and not only as an HTTP request: a failure becomes a status that a client library understands,
/// a deadline is kept and passed on, the first message is timed, and a model is found by its name.
/// Everything here is pure: bytes in, values out.
///
/// Parts: `GRPCStatus` with its mappings, `GRPCStatusMessage` and `GRPCTimeout` for two fields,
/// `MessageObserver` for the framing of messages, `ModelNameScanner` for the Open Inference
/// Protocol's requests, `GRPCMethod` for paths, `HealthCheck` and `InferenceAnswers` for what the
/// gateway answers by itself.
///
/// Limits: `ModelNameScanner.nameBytesMax`, `ModelNameScanner.fieldsMax`,
/// `HealthCheck.requestBytesMax`, `GRPCStatusMessage.encodedBytesMax`, eight digits in a timeout.
///
/// What it does not do: HTTP/2 itself, decompressing messages, protobuf beyond the fields of one
/// message that are skipped or read as text, gRPC-Web.
///
/// Reading order: `GRPCStatus`, `GRPCTimeout`, `MessageObserver`, `ModelNameScanner`.
