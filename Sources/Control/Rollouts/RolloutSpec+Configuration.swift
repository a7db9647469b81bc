import Configuration
import Core
import Rollouts

extension RolloutSpec {
    /// What a configuration says of a model's rollouts; nil where it can have none: a fixed split
    /// takes its place, or no variant is named as the live one.
    ///
    /// Of interchangeable variants the first stands for all: between them there is no rollout.
    ///
    /// - Parameter revision: of a variant's template; empty where revisions are not known.
    package init?(
        _ model: ModelResource,
        _ configuration: Configuration,
        revision: (_ variant: String) -> String = { _ in "" }
    ) {
        guard model.spec.weights.isEmpty, let live = model.spec.live else { return nil }
        let policy = model.spec.rolloutPolicy.flatMap {
            configuration.rolloutPolicy($0, namespace: model.metadata.namespace)
        }
        self.init(
            live: model.spec.representative(of: live),
            variants: model.spec.variants.map {
                VariantReference($0.name, revision: revision($0.name))
            },
            plan: policy?.spec.plan(model.spec.objectives)
        )
    }
}

extension RolloutPlan {
    /// Whether answers of the two variants are compared, which needs to know how much those of one
    /// differ.
    var comparesAnswers: Bool {
        self.analysis.metrics.contains { $0.test.isAboutAnswers }
    }

    /// Whether a metric is about what answers say, so that they have to be looked into.
    var inspectsAnswers: Bool {
        let copies = self.steps.contains { if case .mirror = $0 { true } else { false } }
        return copies
            || self.analysis.metrics.contains { metric in
                switch metric.test {
                case .events(let kind, _, _):
                    switch kind {
                    case .refused, .invalidJSON, .emptyOutput, .truncatedOutput: true
                    case .error, .timeout, .cancelled: false
                    }
                case .pairs: true
                case .quantile, .distance, .custom: false
                }
            }
    }
}

extension MetricPlan.Test {
    fileprivate var isAboutAnswers: Bool {
        if case .pairs(.different, _) = self { true } else { false }
    }
}
