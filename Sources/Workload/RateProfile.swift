/// The rate of arrivals over time: constant pieces and linear ramps, one after the other.
package struct RateProfile: Equatable, Sendable {
    package struct Segment: Equatable, Sendable {
        /// Requests per second at its beginning and end; in between the rate changes linearly.
        package var start: Double
        package var end: Double
        /// Seconds, more than 0.
        package var duration: Double

        package init(start: Double, end: Double, duration: Double) {
            self.start = start
            self.end = end
            self.duration = duration
        }

        /// Arrivals expected in it.
        var count: Double { (self.start + self.end) / 2 * self.duration }

        /// When `count` arrivals are to be expected, in seconds from its beginning.
        func time(ofCount count: Double) -> Double {
            let slope = (self.end - self.start) / self.duration
            let root = max(0, self.start * self.start + 2 * slope * count).squareRoot()
            // The form without a difference of like numbers in the numerator.
            return self.start + root > 0 ? min(2 * count / (self.start + root), self.duration) : 0
        }
    }

    package private(set) var segments: [Segment]

    package init(_ segments: [Segment]) {
        self.segments = segments
    }

    package init(rate: Double, duration: Double) {
        self.init([Segment(start: rate, end: rate, duration: duration)])
    }

    /// Seconds.
    package var duration: Double { self.segments.reduce(0) { $0 + $1.duration } }
    /// Arrivals expected in all.
    package var count: Double { self.segments.reduce(0) { $0 + $1.count } }
    package var peak: Double { self.segments.reduce(0) { max($0, $1.start, $1.end) } }
    package var first: Double { self.segments.first?.start ?? 0 }
    package var last: Double { self.segments.last?.end ?? 0 }

    /// With constant pieces before and after it, at its first and its last rate.
    package func padded(before: Double, after: Double) -> RateProfile {
        var all: [Segment] = []
        if before > 0 { all.append(Segment(start: self.first, end: self.first, duration: before)) }
        all += self.segments
        if after > 0 { all.append(Segment(start: self.last, end: self.last, duration: after)) }
        return RateProfile(all)
    }

    /// What `parse` reads.
    package static let grammar =
        "RATE, FROM..TO for a ramp, either with @DURATION, several joined by commas for steps"

    /// Reads `grammar`: `200`, `10..500`, `50,100,200`, `50@10s,50..200@30s`. Segments without a
    /// duration share evenly what the others leave of `duration`.
    /// - Parameter duration: seconds of the whole; nil where every segment says its own.
    package static func parse(
        _ text: String,
        duration: Double?
    ) throws(WorkloadError) -> RateProfile {
        var pieces: [(start: Double, end: Double, duration: Double?)] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            pieces.append(try self.piece(part, of: text))
        }
        let given = pieces.compactMap(\.duration).reduce(0, +)
        let open = pieces.count { $0.duration == nil }
        if open == 0, let duration, (given - duration).magnitude > 1e-6 * duration {
            throw WorkloadError(
                "the rate \(text) lasts \(DecimalText.figures(given))s, not the duration given: "
                    + "leave one of them out"
            )
        }
        if open > 0 && (duration ?? 0) - given <= 0 {
            throw WorkloadError("the rate \(text) leaves no time for segments without @DURATION")
        }
        let share = open > 0 ? ((duration ?? 0) - given) / Double(open) : 0
        let profile = RateProfile(
            pieces.map { Segment(start: $0.start, end: $0.end, duration: $0.duration ?? share) }
        )
        guard profile.count > 0 else {
            throw WorkloadError("the rate \(text) sends nothing: give a rate above 0")
        }
        return profile
    }

    private static func piece(
        _ part: Substring,
        of text: String
    ) throws(WorkloadError) -> (start: Double, end: Double, duration: Double?) {
        let halves = part.split(separator: "@", omittingEmptySubsequences: false)
        var duration: Double?
        if halves.count == 2 {
            duration = TimeText.seconds(halves[1])
            guard let duration, duration > 0 else {
                throw WorkloadError("\(halves[1]) in the rate \(text) is no time span such as 30s")
            }
        }
        let rates = self.rates(halves.first ?? "")
        guard halves.count <= 2, let rates else {
            throw WorkloadError("\(part) is no rate: expected \(self.grammar)")
        }
        for rate in [rates.0, rates.1] where !(0...WorkloadLimits.rateMax).contains(rate) {
            throw WorkloadError(
                "\(DecimalText.figures(rate)) requests per second cannot be sent: "
                    + "a rate lies between 0 and 10 million"
            )
        }
        return (rates.0, rates.1, duration)
    }

    private static func rates(_ text: Substring) -> (Double, Double)? {
        if let rate = Double(text), !rate.isNaN { return (rate, rate) }
        let characters = Array(text)
        for index in characters.indices.dropLast(1) {
            guard characters[index] == ".", characters[index + 1] == "." else { continue }
            guard let start = Double(String(characters[..<index])),
                let end = Double(String(characters[(index + 2)...])), !start.isNaN, !end.isNaN
            else { return nil }
            return (start, end)
        }
        return nil
    }
}
