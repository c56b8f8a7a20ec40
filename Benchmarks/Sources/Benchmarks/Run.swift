import Glibc

/// What one run of something took.
struct Run {
    var seconds: Double
    /// Of the measured process, user and system together.
    var processorSeconds: Double
    /// Seconds that each single operation took, where that was measured.
    var median: Double?
    var percentile99: Double?
}

/// Time and processor time of this process from the start of the object on.
struct Stopwatch {
    private let began = ContinuousClock.now
    private let processorTime = ProcessUsage.processorSeconds

    /// - Parameter samples: seconds of the single operations.
    func stop(samples: [Double] = []) -> Run {
        let sorted = samples.sorted()
        return Run(
            seconds: (ContinuousClock.now - began).inSeconds,
            processorSeconds: ProcessUsage.processorSeconds - processorTime,
            median: sorted.isEmpty ? nil : sorted[sorted.count / 2],
            percentile99: sorted.isEmpty ? nil : sorted[sorted.count * 99 / 100],
        )
    }
}

extension Duration {
    var inSeconds: Double { self / .seconds(1) }
}

extension Collection<Double> {
    /// The lower of the two middle values of an even number; not a number without values.
    var median: Double {
        let sorted = sorted()
        return sorted.isEmpty ? .nan : sorted[(sorted.count - 1) / 2]
    }
}
