import Core

/// A decision as JSON, for the admin API and logs; its fields are named as the types' are.
extension ScalingDecision {
    package func append(toJSON buffer: ByteBuffer) {
        var object = JSONObject(buffer)
        object.add("model", self.model)
        object.add("number", Double(self.number))
        if let wallSeconds { object.add("time", Double(wallSeconds)) }
        object.key("variants")
        buffer.append(byte: UInt8(ascii: "["))
        for (index, variant) in self.variants.enumerated() {
            if index > 0 { buffer.append(byte: UInt8(ascii: ",")) }
            variant.append(toJSON: buffer)
        }
        buffer.append(byte: UInt8(ascii: "]"))
        object.end()
    }
}

extension VariantDecision {
    package func append(toJSON buffer: ByteBuffer) {
        var object = JSONObject(buffer)
        object.add("variant", self.variant)
        object.add("outcome", self.outcome.rawValue)
        object.add("previous", Double(self.previous))
        object.add("desired", Double(self.desired))
        object.add("dryRun", self.isDryRun)
        object.add("worth", self.worth)
        object.add("trafficShare", self.trafficShare)
        object.add("summary", self.summary)
        object.key("inputs")
        self.inputs.append(toJSON: buffer)
        object.list("recommendations", self.recommendations) { recommendation, buffer in
            var entry = JSONObject(buffer)
            entry.add("replicas", recommendation.replicas.map(Double.init))
            if case .target(let index) = recommendation.source {
                entry.add("target", Double(index))
            }
            entry.add("reason", recommendation.reason.text)
            entry.end()
        }
        object.list("constraints", self.constraints) { constraint, buffer in
            var entry = JSONObject(buffer)
            entry.add("before", Double(constraint.before))
            entry.add("after", Double(constraint.after))
            entry.add("reason", constraint.kind.text)
            entry.end()
        }
        object.end()
    }
}

extension DecisionInputs {
    fileprivate func append(toJSON buffer: ByteBuffer) {
        var object = JSONObject(buffer)
        object.add("ready", self.ready.map(Double.init))
        object.add("starting", self.starting.map(Double.init))
        object.add("draining", self.draining.map(Double.init))
        object.add("stuck", self.stuck.map(Double.init))
        object.add("inFlight", self.inFlight)
        object.add("queued", self.queued)
        object.add("arrivalRate", self.arrivalRate)
        object.add("burstRate", self.burstRate)
        object.add("forecastRate", self.forecastRate)
        object.add("forecastHorizonSeconds", self.forecastHorizonSeconds)
        if let forecastMethod { object.add("forecastMethod", forecastMethod.rawValue) }
        object.add("capacityRate", self.capacityRate)
        object.add("attainment", self.attainment)
        object.add("correction", self.correction)
        if let plan { object.add("plan", plan.text) }
        object.add("coldStartSeconds", self.coldStartSeconds)
        object.add("coldStartsMeasured", Double(self.coldStartsMeasured))
        object.add("drainSeconds", self.drainSeconds)
        object.end()
    }
}

/// Writes an object field by field. What is unknown is `null`.
private struct JSONObject {
    private let buffer: ByteBuffer
    private var isEmpty = true

    init(_ buffer: ByteBuffer) {
        self.buffer = buffer
        buffer.append(byte: UInt8(ascii: "{"))
    }

    mutating func key(_ name: String) {
        if !self.isEmpty { self.buffer.append(byte: UInt8(ascii: ",")) }
        self.isEmpty = false
        self.buffer.append(jsonString: name)
        self.buffer.append(byte: UInt8(ascii: ":"))
    }

    mutating func add(_ name: String, _ text: String) {
        self.key(name)
        self.buffer.append(jsonString: text)
    }

    mutating func add(_ name: String, _ flag: Bool) {
        self.key(name)
        self.buffer.append(flag ? "true" as StaticString : "false" as StaticString)
    }

    mutating func add(_ name: String, _ value: Double?) {
        self.key(name)
        guard let value, value.isFinite else {
            self.buffer.append("null" as StaticString)
            return
        }
        self.buffer.append(Decimal.text(value, digits: 4))
    }

    mutating func list<Element>(
        _ name: String,
        _ elements: [Element],
        _ write: (Element, ByteBuffer) -> Void
    ) {
        self.key(name)
        self.buffer.append(byte: UInt8(ascii: "["))
        for (index, element) in elements.enumerated() {
            if index > 0 { self.buffer.append(byte: UInt8(ascii: ",")) }
            write(element, self.buffer)
        }
        self.buffer.append(byte: UInt8(ascii: "]"))
    }

    mutating func end() { self.buffer.append(byte: UInt8(ascii: "}")) }
}
