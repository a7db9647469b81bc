import HTTPService

extension JSONProjection {
    /// Everything but `metadata.managedFields` and the last applied manifest, which nobody here
    /// reads and which make up half of most objects.
    package static let withoutBookkeeping: JSONProjection = .allBut([
        "metadata": .some(
            .allBut([
                "managedFields": .none,
                "annotations": .some(
                    .allBut(["kubectl.kubernetes.io/last-applied-configuration": .none])
                ),
            ])
        )
    ])
}
