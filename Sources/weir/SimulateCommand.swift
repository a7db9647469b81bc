import ArgumentParser
import Core
import Glibc
import LoadTest
import Reports
import Simulation
import Workload

/// `weir simulate`: what scaling policies make of a traffic, without a single GPU.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run scaling policies on a traffic and compare what they cost and attain.",
        discussion: """
            Runs Weir's own autoscaler (--policy weir, or a file with a ScalingPolicy) and what \
            others do (\(Self.others)) \
            in a world of events, on the same requests with the same cold starts, and beside them \
            somebody who knew the future. GPU-seconds count while a replica loads and drains.

            Example: two policies on a real hour, as a page to look at
              weir simulate --trace azure-llm-2023-conversation.csv --policy weir \\
                --policy kpa:target=5 --report simulation.html

            Example: my own policy with three seeds on a made-up flash crowd
              weir simulate --scenario flash --policy scaling.yaml --seeds 3

            Example: how cost and service trade off, for every baseline
              weir simulate --rate 2..20@1h,20..2@1h --sweep

            Example: a small GPU and a big one, and a new variant that fails now and then
              weir simulate --scenario diurnal --policy weir --variant big:cost=3,speed=2.5 \\
                --canary next:at=30m,errors=0.03

            Example: each baseline tuned to serve 99 % within the objective, Weir as it is
              weir simulate --compare --scenario diurnal --cold-start 20s,60s,180s
            """
    )

    private static let others = Baseline.Kind.allCases.map(\.rawValue).joined(separator: ", ")

    @OptionGroup(title: "Traffic") var traffic: SimulatedTrafficFlags
    @OptionGroup(title: "Trace") var trace: TraceFlags
    @OptionGroup(title: "Replicas") var replicas: SimulatedReplicaFlags
    @OptionGroup(title: "Variants") var variants: SimulatedVariantFlags
    @OptionGroup(title: "Policies") var policies: SimulatedPolicyFlags
    @OptionGroup(title: "Output") var output: SimulationOutputFlags

    func run() throws {
        do {
            try self.output.checkPlaces()
            let weir = try self.policies.own()
            let replicas = self.replicas.merged(with: weir.first)
            let hasVariants = self.variants.areThere(weir.first)
            if hasVariants, weir.first?.sharing != nil {
                throw ValidationError("a simulation has models that share a budget, or variants")
            }
            if hasVariants, self.policies.compare || self.policies.sweep {
                throw ValidationError(
                    "--compare and --sweep tune one number of replicas: leave variants out"
                )
            }
            let vary = try self.variants.adapter(own: weir.first)
            let scenarios = try self.traffic.scenarios(
                self.trace,
                replicas,
                sharing: weir.first?.sharing
            )
            .map { (vary($0.0), $0.1) }
            for (scenario, delay) in scenarios {
                let setup = scenario.make(self.policies.seed, delay)
                if let problem = setup.problems.first {
                    throw RuntimeError(description: "\(scenario.name): \(problem)")
                }
                for own in weir {
                    if let problem = own.choice.problem(in: setup) {
                        throw RuntimeError(
                            description: "\(problem): add `{type: Objective}` to its targets, or "
                                + "leave the variants out"
                        )
                    }
                }
            }
            let study = SimulationStudy(
                scenarios: scenarios,
                coldStarts: try replicas.coldStarts().count,
                seeds: self.policies.allSeeds,
                target: self.policies.attainment / 100,
                own: weir.map(\.choice),
                progress: self.output.progress
            )
            try self.report(try self.reports(study, hasVariants: hasVariants))
        } catch let error as WorkloadError {
            throw RuntimeError(description: error.description)
        } catch let error as LoadError {
            throw RuntimeError(description: error.description)
        } catch let error as SimulationError {
            throw RuntimeError(description: error.description)
        }
    }

    /// Of several variants no optimum is known.
    private func reports(_ study: SimulationStudy, hasVariants: Bool) throws -> [SimulationReport] {
        if self.policies.compare {
            return study.compare(
                try self.policies.kinds(study),
                withOptimum: !self.policies.noOptimum
            )
        }
        let baselines = try self.policies.baselines(study)
        return study.run(
            baselines,
            sweeps: self.policies.sweep,
            withOptimum: !self.policies.noOptimum && !hasVariants
        )
    }

    private func report(_ reports: [SimulationReport]) throws {
        if let path = self.output.output {
            let buffer = ByteBuffer(capacity: 64 << 10)
            SimulationJSON.write(reports, to: buffer)
            try OutputFlags.write(buffer, to: path)
        }
        if let path = self.output.report {
            let buffer = ByteBuffer(capacity: 256 << 10)
            var now = timespec()
            clock_gettime(CLOCK_REALTIME, &now)  // tidy: the page says when it was made
            SimulationPage.write(reports, startedAt: Double(now.tv_sec), to: buffer)
            try OutputFlags.write(buffer, to: path)
        }
        if self.output.output == "-" || self.output.report == "-" || self.output.quiet { return }
        for report in reports { Output.write(SimulationText.text(report), to: STDOUT_FILENO) }
        if self.policies.compare {
            Output.write("\nGoals\n\n" + SimulationText.goals(reports), to: STDOUT_FILENO)
        }
    }
}

/// Where the results go.
struct SimulationOutputFlags: ParsableArguments {
    @Option(help: "Write every figure as JSON to this file; - for standard output.")
    var output: String?
    @Option(help: "Write a page with plots (.html) to this file; - for standard output.")
    var report: String?
    @Flag(help: "No progress and no table.") var quiet = false

    var progress: SimulationStudy.ProgressStyle {
        if self.quiet { return .none }
        let isTerminal = isatty(STDERR_FILENO) == 1 && Output.environment()["TERM"] != "dumb"
        return isTerminal ? .bar : .lines
    }

    /// A long run must not end in a file that cannot be written.
    func checkPlaces() throws {
        for path in [self.output, self.report] {
            guard let path, path != "-" else { continue }
            let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else {
                throw LoadError("cannot write \(path): \(String(cString: strerror(errno)))")
            }
            close(descriptor)
        }
    }
}
