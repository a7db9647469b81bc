import Core
import GRPC
import HTTP
import Traffic

/// What an exchange is besides a request, where it is a call of gRPC.
final class Call {
    let method: GRPCMethod
    /// When its client gives up; `distantFuture` where it has not said.
    let deadline: Instant
    /// Where its head alone would send it; asked for where its first message names no model.
    var fallback: WorkerModel?
    var scanner = ModelNameScanner()
    /// The messages of the answer.
    var answers = MessageObserver()
    /// How it has ended, once the replica or the gateway has said so.
    var status: GRPCStatus?
    /// What a reset stream stands for, of the latest try.
    var resetStatus: GRPCStatus?
    /// What a client that watches was told last.
    var health: HealthCheck.Status?

    init(_ method: GRPCMethod, deadline: Instant) {
        self.method = method
        self.deadline = deadline
    }

    /// What is asked of a model, as far as the path says it.
    var operation: RoutingDecision.Operation {
        switch self.method {
        case .model(.infer), .model(.streamInfer): .inference
        case .model(.metadata): .metadata
        case .model(.ready): .readiness
        case .health, .fleet: .readiness
        case .other: .other
        }
    }

    static let timeoutField = Array("grpc-timeout".utf8)
    static let statusField = Array("grpc-status".utf8)

    /// Why a call is not passed on.
    enum Refusal {
        static let timeout = ProxyError.Detail(
            label: "grpc-timeout",
            message: "The call's grpc-timeout is not valid."
        )
        static let deadline = ProxyError.Detail(
            label: "grpc-deadline",
            message: "The call's deadline has passed."
        )
        static let noModel = ProxyError.Detail(
            label: "grpc-no-model",
            message:
                "The call names no model: set model_name in its first message, or x-weir-model."
        )
        static let compressed = ProxyError.Detail(
            label: "grpc-compressed",
            message: "The call's first message is compressed: name the model in x-weir-model."
        )
        static let tooLarge = ProxyError.Detail(
            label: "grpc-name-too-late",
            message: "The model's name is too far behind: name it first, or in x-weir-model."
        )
        static let http1 = ProxyError.Detail(
            label: "grpc-http1-replicas",
            message: "The model's replicas speak HTTP/1: gRPC needs a Model of protocol GRPC."
        )
        static let unknownMethod = ProxyError.Detail(
            label: "grpc-unknown-method",
            message: "No model takes calls of this method."
        )
    }
}
