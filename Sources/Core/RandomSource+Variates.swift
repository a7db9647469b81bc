// Normal and exponential variates by the ziggurat method (Marsaglia and Tsang, "The Ziggurat Method
// for Generating Random Variables", Journal of Statistical Software 5(8), 2000), with the layer and
// the place in it drawn from bits of their own (Doornik, "An Improved Ziggurat Method to Generate
// Normal Random Samples", 2005).
//
// The area under a falling density is cut into 256 layers of the same area. A point is drawn in one
// of them; left of the width of the layer above it lies below the density for certain, which is so
// in 99 of 100 draws and takes one random number, one product and one comparison. No variate is
// kept for the next call, so the generator's state alone decides what comes.

/// The layers under one density.
private struct Ziggurat: Sendable {
    static let count = 256
    /// Of each layer, from the base up, and 0 above the last. The base has a tail; its width is
    /// that of a rectangle with the area of both.
    let widths: [Double]
    /// The density at each width.
    let heights: [Double]

    /// - Parameters:
    ///   - tail: where the base's tail begins, for 256 layers of `area`.
    ///   - inverse: of `density`, for values in it.
    init(
        tail: Double,
        area: Double,
        density: (Double) -> Double,
        inverse: (Double) -> Double
    ) {
        var widths = [area / density(tail), tail]
        for layer in 1..<Self.count - 1 {
            widths.append(inverse(min(1, area / widths[layer] + density(widths[layer]))))
        }
        widths.append(0)
        self.widths = widths
        self.heights = widths.map(density)
    }

    static let normalTail = 3.6541528853610088
    static let forNormal = Ziggurat(
        tail: Self.normalTail,
        area: 0.004_928_673_233_974_655,
        density: { exponential(-0.5 * $0 * $0) },
        inverse: { (-2 * naturalLogarithm($0)).squareRoot() }
    )

    static let exponentialTail = 7.697117470131487
    static let forExponential = Ziggurat(
        tail: Self.exponentialTail,
        area: 0.003_949_659_822_581_557,
        density: { exponential(-$0) },
        inverse: { -naturalLogarithm($0) }
    )
}

extension RandomSource {
    /// A standard normal variate.
    package mutating func nextNormal() -> Double {
        let ziggurat = Ziggurat.forNormal
        while true {
            let bits = self.next()
            let layer = Int(truncatingIfNeeded: bits & 255)
            let x = Double(bits >> 11) * 0x1p-53 * ziggurat.widths[layer]
            let magnitude: Double
            if x < ziggurat.widths[layer + 1] {
                magnitude = x
            } else if layer == 0 {
                magnitude = self.nextNormalTail()
            } else {
                let low = ziggurat.heights[layer]
                let height = low + self.nextUnit() * (ziggurat.heights[layer + 1] - low)
                if height >= exponential(-0.5 * x * x) { continue }
                magnitude = x
            }
            return bits & 256 == 0 ? magnitude : -magnitude
        }
    }

    /// A normal variate beyond the base (Marsaglia, "Generating a Variable from the Tail of the
    /// Normal Distribution", Technometrics 6, 1964).
    private mutating func nextNormalTail() -> Double {
        while true {
            let beyond = -naturalLogarithm(1 - self.nextUnit()) / Ziggurat.normalTail
            if -2 * naturalLogarithm(1 - self.nextUnit()) > beyond * beyond {
                return Ziggurat.normalTail + beyond
            }
        }
    }

    /// Exponential with mean 1.
    package mutating func nextExponential() -> Double {
        let ziggurat = Ziggurat.forExponential
        while true {
            let bits = self.next()
            let layer = Int(truncatingIfNeeded: bits & 255)
            let x = Double(bits >> 11) * 0x1p-53 * ziggurat.widths[layer]
            if x < ziggurat.widths[layer + 1] { return x }
            // The tail of an exponential variate is one itself.
            if layer == 0 {
                return Ziggurat.exponentialTail - naturalLogarithm(1 - self.nextUnit())
            }
            let low = ziggurat.heights[layer]
            let height = low + self.nextUnit() * (ziggurat.heights[layer + 1] - low)
            if height < exponential(-x) { return x }
        }
    }

    /// A log-normal factor with median 1.
    package mutating func nextLogNormal(sigma: Double) -> Double {
        exponential(sigma * self.nextNormal())
    }
}
