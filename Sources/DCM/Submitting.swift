import Foundation

/// Submits one resource after the other, not faster than told, and counts what becomes of them.
struct Submitting: Sendable {
    /// One resource.
    let submit: @Sendable (IngestAPI.Resource) async throws -> IngestAPI.Outcome
    /// A second at most; nil: as fast as it goes.
    var rate: Double?
    /// Before the second and the third attempt at what is away.
    var pauses = [Duration.seconds(2), .seconds(5)]
    /// So many failures in a row, and the rest is left.
    var patience = 5

    /// - Parameters:
    ///   - isListed: they were listed by Orthanc: one that it does not have any more is no mistake.
    ///   - onChange: called after each one.
    func run(_ resources: [IngestAPI.Resource], isListed: Bool, onChange: (SubmissionTally) -> Void) async throws -> SubmissionTally {
        var tally = SubmissionTally(total: resources.count)
        var failuresInARow = 0
        let start = ContinuousClock.now
        for (position, resource) in resources.enumerated() {
            if let rate { try await Task.sleep(until: start + .seconds(Double(position) / rate), clock: .continuous) }
            let outcome = try await attempt(resource)
            tally.count(outcome, of: resource.id, isListed: isListed)
            onChange(tally)
            if case .unavailable = outcome { failuresInARow += 1 } else { failuresInARow = 0 }
            if failuresInARow >= patience { break }
        }
        return tally
    }

    private func attempt(_ resource: IngestAPI.Resource) async throws -> IngestAPI.Outcome {
        for pause in pauses {
            let outcome = try await submit(resource)
            guard case .unavailable = outcome else { return outcome }
            try await Task.sleep(for: pause)
        }
        return try await submit(resource)
    }
}

/// What has become of the resources of one command.
struct SubmissionTally: Sendable, Hashable {
    let total: Int
    private(set) var dispatched = 0
    private(set) var known = 0
    /// Counts by the reason's code.
    private(set) var filtered: [String: Int] = [:]
    private(set) var unstable = 0
    /// Deleted since they were listed.
    private(set) var gone = 0
    private(set) var failed = 0
    /// The first of them, a sentence each.
    private(set) var failures: [String] = []

    init(total: Int) { self.total = total }

    var done: Int { dispatched + known + filtered.values.reduce(0, +) + unstable + gone + failed }

    mutating func count(_ outcome: IngestAPI.Outcome, of id: String, isListed: Bool) {
        switch outcome {
        case .dispatched: dispatched += 1
        case .known: known += 1
        case .filtered(let code): filtered[code, default: 0] += 1
        case .unstable: unstable += 1
        case .notFound where isListed: gone += 1
        case .notFound: fail(id, "Orthanc has none with this id.")
        case .unavailable(let why): fail(id, why)
        }
    }

    private mutating func fail(_ id: String, _ why: String) {
        failed += 1
        if failures.count < 20 { failures.append("\(id): \(why)") }
    }

    var line: String {
        let refused = filtered.values.reduce(0, +)
        return "\(done) of \(total): \(dispatched) dispatched, \(known) known, \(refused) filtered, \(failed) failed"
    }

    var summary: String {
        var lines = [line]
        for (code, count) in filtered.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
            lines.append("  filtered, \(code): \(count)")
        }
        if unstable > 0 { lines.append("  still being received: \(unstable); their events follow when they are stable") }
        if gone > 0 { lines.append("  deleted from Orthanc meanwhile: \(gone)") }
        lines += failures.map { "  failed, \($0)" }
        if failed > failures.count { lines.append("  and \(failed - failures.count) more failed") }
        if done < total {
            lines.append("  \(total - done) were not tried after so many failures")
        }
        return lines.joined(separator: "\n")
    }
}
