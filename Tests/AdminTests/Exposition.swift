/// Metrics text read back as strictly as a scraper should: every rule broken is an error.
struct Exposition {
    struct Sample {
        var name: String
        var labels: [String: String]
        var value: Double
    }

    struct Family {
        var name: String
        var kind: String
        var samples: [Sample] = []
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private(set) var families: [Family] = []
    private var series: Set<String> = []
    private let isOpenMetrics: Bool
    private var helped = ""
    private var isEnded = false

    init(_ text: String, openMetrics: Bool = false) throws {
        self.isOpenMetrics = openMetrics
        guard text.hasSuffix("\n") else { throw Failure(description: "no line feed at the end") }
        for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
            do {
                try self.read(line)
            } catch let failure as Failure {
                throw Failure(description: "\(failure.description): \(line)")
            }
        }
        guard self.isEnded == openMetrics else { throw Failure(description: "# EOF") }
        for family in self.families { try self.check(family) }
    }

    func family(_ name: String) -> Family? { self.families.first { $0.name == name } }

    /// The one value of a series; nil where there is none.
    func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
        self.families.lazy.flatMap(\.samples).first { $0.name == name && $0.labels == labels }?
            .value
    }

    /// The sum over all series that have at least these labels.
    func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
        self.families.flatMap(\.samples).reduce(0) { sum, sample in
            let fits = labels.allSatisfy { sample.labels[$0.key] == $0.value }
            return sample.name == name && fits ? sum + sample.value : sum
        }
    }

    // MARK: Lines

    private mutating func read(_ line: Substring) throws {
        if self.isEnded { throw Failure(description: "text after the end") }
        if line == "# EOF" {
            self.isEnded = true
        } else if line.hasPrefix("# HELP ") {
            let parts = line.split(separator: " ", maxSplits: 3)
            guard parts.count == 4 else { throw Failure(description: "no help") }
            self.helped = String(parts[2])
        } else if line.hasPrefix("# TYPE ") {
            try self.readType(line)
        } else {
            try self.readSample(line)
        }
    }

    private mutating func readType(_ line: Substring) throws {
        let parts = line.split(separator: " ")
        guard parts.count == 4, Self.isName(parts[2]) else { throw Failure(description: "type") }
        let name = String(parts[2])
        guard name == self.helped else { throw Failure(description: "no help before") }
        guard ["counter", "gauge", "histogram"].contains(parts[3]) else {
            throw Failure(description: "unknown type")
        }
        guard self.family(name) == nil else { throw Failure(description: "family twice") }
        self.families.append(Family(name: name, kind: String(parts[3])))
    }

    private mutating func readSample(_ line: Substring) throws {
        guard let space = line.lastIndex(of: " ") else { throw Failure(description: "no value") }
        let number = line[line.index(after: space)...]
        guard let value = Double(number.replacing("+Inf", with: "inf")) else {
            throw Failure(description: "no number")
        }
        let series = line[..<space]
        guard self.series.insert(String(series)).inserted else {
            throw Failure(description: "series twice")
        }
        let brace = series.firstIndex(of: "{") ?? series.endIndex
        let name = series[..<brace]
        guard Self.isName(name) else { throw Failure(description: "name") }
        let labels = try Self.labels(series[brace...])
        guard let family = self.families.last, self.belongs(String(name), to: family) else {
            throw Failure(description: "sample outside of its family")
        }
        self.families[self.families.count - 1].samples.append(
            Sample(name: String(name), labels: labels, value: value)
        )
    }

    private func belongs(_ name: String, to family: Family) -> Bool {
        switch family.kind {
        case "histogram": ["_bucket", "_sum", "_count"].contains { name == family.name + $0 }
        case "counter" where self.isOpenMetrics: name == family.name + "_total"
        default: name == family.name
        }
    }

    /// `{a="b",c="d"}` or nothing.
    private static func labels(_ text: Substring) throws -> [String: String] {
        if text.isEmpty { return [:] }
        guard text.hasSuffix("\"}") else { throw Failure(description: "labels") }
        var labels: [String: String] = [:]
        var rest = text.dropFirst()
        while rest != "}" {
            if !labels.isEmpty {
                guard rest.first == "," else { throw Failure(description: "no comma") }
                rest = rest.dropFirst()
            }
            let name = rest.prefix { $0 != "=" }
            guard self.isName(name) else { throw Failure(description: "label name") }
            rest = rest.dropFirst(name.count)
            guard rest.hasPrefix("=\"") else { throw Failure(description: "no quote") }
            let value = try self.quoted(&rest)
            guard labels.updateValue(value, forKey: String(name)) == nil else {
                throw Failure(description: "label twice")
            }
        }
        return labels
    }

    private static func quoted(_ rest: inout Substring) throws -> String {
        rest = rest.dropFirst(2)
        var value = ""
        while let character = rest.popFirst() {
            if character == "\"" { return value }
            guard character == "\\" else {
                value.append(character)
                continue
            }
            switch rest.popFirst() {
            case "n": value.append("\n")
            case "\\": value.append("\\")
            case "\"": value.append("\"")
            default: throw Failure(description: "escape")
            }
        }
        throw Failure(description: "no end of a label")
    }

    private static func isName(_ text: Substring) -> Bool {
        guard let first = text.first, !first.isNumber else { return false }
        return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
    }

    // MARK: Families

    private func check(_ family: Family) throws {
        if !self.isOpenMetrics, family.kind == "counter", !family.name.hasSuffix("_total") {
            throw Failure(description: "the counter \(family.name) does not end in _total")
        }
        if family.kind != "gauge", family.samples.contains(where: { $0.value < 0 }) {
            throw Failure(description: "\(family.name) is below zero")
        }
        guard family.kind == "histogram" else { return }
        var histograms: [[String: String]: [Sample]] = [:]
        for sample in family.samples {
            histograms[sample.labels.filter { $0.key != "le" }, default: []].append(sample)
        }
        for (labels, samples) in histograms {
            try Self.check(samples, "\(family.name)\(labels)", family.name)
        }
    }

    /// Bounds rise, counts do not fall, and the last bucket holds everything.
    private static func check(_ samples: [Sample], _ what: String, _ name: String) throws {
        let buckets = samples.filter { $0.name == name + "_bucket" }
        let bounds = buckets.map { ($0.labels["le"] ?? "").replacing("+Inf", with: "inf") }
            .map { Double($0) ?? .nan }
        guard bounds.last == .infinity, zip(bounds, bounds.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw Failure(description: "\(what) has bounds \(bounds)") }
        let counts = buckets.map(\.value)
        guard zip(counts, counts.dropFirst()).allSatisfy({ $0 <= $1 }) else {
            throw Failure(description: "\(what) falls")
        }
        let count = samples.first { $0.name == name + "_count" }?.value
        guard count == counts.last, samples.contains(where: { $0.name == name + "_sum" }) else {
            throw Failure(description: "\(what) has count \(String(describing: count))")
        }
    }
}
