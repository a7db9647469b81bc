import Core

/// How busy one GPU, or one slice of a GPU, is: from NVIDIA's DCGM exporter.
package struct GPUReading: Sendable, Hashable {
    /// GPUs read of one exporter; those beyond are left out.
    package static let countMax = 1_024

    package var uuid: String
    /// Its number on its host.
    package var index: String?
    package var host: String?
    /// The slice of a GPU that is shared out by MIG.
    package var instance: String?
    /// Who has it, where the exporter knows.
    package var namespace: String?
    package var pod: String?
    package var container: String?
    /// Share of the time that it worked on anything, 0 to 1.
    package var use: Double?
    package var memoryUsedBytes: Double?
    package var memoryFreeBytes: Double?

    /// Reads an exposition of a DCGM exporter; empty where it has no GPU.
    package static func read(
        _ bytes: RawSpan,
        format: ExpositionParser.Format = .text
    ) -> [GPUReading] {
        var parser = ExpositionParser(format: format)
        var readings: [GPUReading] = []
        var indices: [[String?]: Int] = [:]
        while let sample = parser.next(bytes) {
            guard
                let metric = Metric.allCases.first(where: {
                    bytes.holds(sample.name, $0.rawValue)
                })
            else { continue }
            let fresh = GPUReading(parser, bytes)
            guard !fresh.uuid.isEmpty else { continue }
            let key = [fresh.uuid, fresh.instance, fresh.namespace, fresh.pod, fresh.container]
            if let index = indices[key] {
                readings[index].set(metric, sample.value)
            } else if readings.count < Self.countMax {
                indices[key] = readings.count
                readings.append(fresh)
                readings[readings.count - 1].set(metric, sample.value)
            }
        }
        return readings
    }

    private enum Metric: String, CaseIterable {
        case utilization = "DCGM_FI_DEV_GPU_UTIL"
        /// The only one of a slice.
        case engineActive = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
        case memoryUsed = "DCGM_FI_DEV_FB_USED"
        case memoryFree = "DCGM_FI_DEV_FB_FREE"
    }

    private init(_ parser: ExpositionParser, _ bytes: RawSpan) {
        func label(_ names: String...) -> String? {
            for name in names {
                if let value = parser.label(name, bytes), !value.isEmpty { return value }
            }
            return nil
        }
        self.uuid = label("UUID", "uuid") ?? ""
        self.index = label("gpu")
        self.host = label("Hostname", "hostname")
        self.instance = label("GPU_I_ID")
        // Prometheus renames labels that collide with its own, and old exporters had other names.
        self.namespace = label("exported_namespace", "namespace", "pod_namespace")
        self.pod = label("exported_pod", "pod", "pod_name")
        self.container = label("exported_container", "container", "container_name")
    }

    /// A metric that a GPU does not have is given as a huge number of one of four sizes.
    private mutating func set(_ metric: Metric, _ value: Double) {
        guard value.isFinite, value >= 0 else { return }
        switch metric {
        case .utilization: if value <= 100 { self.use = value / 100 }
        case .engineActive: if value <= 1, self.use == nil { self.use = value }
        case .memoryUsed: if value < 1e9 { self.memoryUsedBytes = value * 1_048_576 }
        case .memoryFree: if value < 1e9 { self.memoryFreeBytes = value * 1_048_576 }
        }
    }
}
