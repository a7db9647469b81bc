extension ModelSpec {
    /// The variants that do the same as this one, itself among them, in the order of the file; only
    /// itself where it is in no pool.
    package func interchangeable(with name: String) -> [VariantSpec] {
        guard let variant = self.variant(named: name) else { return [] }
        guard let pool = variant.pool else { return [variant] }
        return self.variants.filter { $0.pool == pool }
    }

    /// The variant that stands for all of a pool in `live`, in rollouts and in weights: the first
    /// of them; any other stands for itself.
    package func representative(of name: String) -> String {
        self.interchangeable(with: name).first?.name ?? name
    }

    /// The pool that serves: the live variant's, or that of the variants with weight. Nil where
    /// whoever serves is alone.
    /// - Parameter stable: the variant that serves while a rollout runs.
    package func servingPool(stable: String? = nil) -> String? {
        let serving =
            stable ?? (self.weights.isEmpty ? self.live : nil)
            ?? self.weights.first { entry in
                entry.weight > 0 && self.interchangeable(with: entry.variant).count > 1
            }?.variant
        guard let serving, let pool = self.variant(named: serving)?.pool,
            self.interchangeable(with: serving).count > 1
        else { return nil }
        return pool
    }
}
