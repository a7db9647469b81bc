import Core
import EventLoop
import HTTP
import Traffic

/// What the gateway answers itself, for the fleet as a whole.
extension Worker {
    func answer(_ endpoint: FleetEndpoint, _ exchange: Exchange) {
        switch endpoint {
        case .openAIModels:
            exchange.answer(json: FleetAnswers.openAIModels(exchange.visibleModels))
        case .serverMetadata:
            exchange.answer(json: FleetAnswers.serverMetadata())
        case .live:
            exchange.answer(json: FleetAnswers.flag("live"))
        case .ready:
            // Ready for requests: those for a model without a replica wait for one.
            exchange.answer(json: FleetAnswers.flag("ready"))
        case .models, .repositoryIndex:
            exchange.answer(json: FleetAnswers.repositoryIndex(exchange.visibleModels))
        }
    }

    /// Copies the request to the mirror, where the model asks for it and this one is in the sample.
    func mirrorIfAsked(_ exchange: Exchange) {
        guard let model = exchange.model, exchange.attempt == 1,
            let mirror = model.route.settings.mirror
        else { return }
        if exchange.isShadow { return }
        let hasWholeBody = exchange.mayBeCopied
        guard let decision = model.decideMirror(hasWholeBody: hasWholeBody) else { return }
        switch decision {
        case .skip:
            break
        case .drop:
            model.meter(mirror.variant).statistics.mirrorDropped += 1
        case .copy:
            self.mirror(exchange, model, to: model.mirrorRoute(of: exchange) ?? mirror.variant)
        }
    }

    private func mirror(_ original: Exchange, _ model: WorkerModel, to variant: Int) {
        let choice = model.pick(
            pinned: model.route.variants[variant],
            excluding: [],
            key: .none,
            now: self.loop.now
        )
        guard let choice else {
            model.meter(variant).statistics.mirrorDropped += 1
            return
        }
        model.mirrorsInFlight += 1
        let copy = self.takeExchange(isShadow: true).takeUnretainedValue()
        original.pairUp(with: copy, choice)
        copy.beginShadow(of: original, model, choice)
    }

    // MARK: Time for people

    /// Seconds since 1970, read at most once per second.
    func date() -> Int64 {
        let now = self.loop.now
        if now.nanoseconds(since: self.dateReadAt) >= 500_000_000 || self.dateReadAt == .zero {
            self.dateReadAt = now
            self.dateSeconds = Int64(EventLoop.readWallClock())
        }
        return self.dateSeconds
    }

    func writeDate(into output: ByteBuffer) {
        output.append("Date: ")
        HTTPDate.write(secondsSince1970: self.date(), into: output)
        output.append("\r\n")
    }
}

/// The bodies of fleet answers.
enum FleetAnswers {
    /// `GET /v1/models`: every name a client may use.
    static func openAIModels(_ models: [ModelRoute]) -> ByteBuffer {
        let output = ByteBuffer(capacity: 1_024)
        output.append("{\"object\":\"list\",\"data\":[")
        var isFirst = true
        for model in models where model.settings.kind != .http {
            if !isFirst { output.append(",") }
            isFirst = false
            output.append("{\"id\":")
            JSONText.write(model.name, into: output)
            output.append(",\"object\":\"model\",\"created\":0,\"owned_by\":\"weir\"}")
        }
        output.append("]}\n")
        return output
    }

    static func serverMetadata() -> ByteBuffer {
        let output = ByteBuffer(capacity: 128)
        output.append("{\"name\":\"weir\",\"version\":")
        JSONText.write(WeirVersion.current, into: output)
        output.append(",\"extensions\":[\"model_repository\"]}\n")
        return output
    }

    /// The Open Inference Protocol's model repository extension.
    static func repositoryIndex(_ models: [ModelRoute]) -> ByteBuffer {
        let output = ByteBuffer(capacity: 1_024)
        output.append("[")
        var isFirst = true
        for model in models {
            if !isFirst { output.append(",") }
            isFirst = false
            let isReady = model.variants.contains { !$0.endpoints.isEmpty }
            output.append("{\"name\":")
            JSONText.write(model.name, into: output)
            output.append(isReady ? ",\"state\":\"READY\"" : ",\"state\":\"UNAVAILABLE\"")
            output.append(isReady ? "}" : ",\"reason\":\"no replica is ready\"}")
        }
        output.append("]\n")
        return output
    }

    static func flag(_ name: StaticString) -> ByteBuffer {
        let output = ByteBuffer(capacity: 32)
        output.append("{\"")
        output.append(name)
        output.append("\":true}\n")
        return output
    }
}
