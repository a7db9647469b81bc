/// How many replicas all requests of a model would need.
package enum FullLoad {
    /// Judged by the variant that has the most of them: what a few percent ask for, multiplied by
    /// as many times, would be the noise of a variant that is still being learned.
    /// - Parameter variants: the share in percent, and how many replicas its load alone asks for;
    ///   what a rollout keeps whatever the load must have no part in it, or it would keep itself.
    /// - Returns: nil where nobody with a share asks for any.
    package static func replicas(_ variants: [(percent: Int, wanted: Int)]) -> Int? {
        let serving = variants.filter { $0.percent > 0 && $0.wanted > 0 }
        guard let most = serving.map({ $0.percent }).max() else { return nil }
        // The last of them may be needed for a fraction only.
        return serving.filter { $0.percent == most }.map { variant in
            let (product, overflow) = (variant.wanted - 1).multipliedReportingOverflow(by: 100)
            return overflow ? variant.wanted : product / variant.percent + 1
        }.max()
    }
}
