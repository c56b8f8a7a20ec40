/// How the router is, said every few seconds on `dcm.events` for whoever measures. Nobody needs it: what gets lost comes again.
package struct VitalsMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.vitals.v1"
    package static let routingKey = "router.vitals"

    /// Seconds; a last class has no end.
    package static let commitEdges: [Double] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]

    /// Commits that took no longer than each edge, and all of them last.
    package var commits: [Int]
    /// What all of them took together.
    package var commitSeconds: Double
    /// What they held.
    package var inputs: Int

    package init() {
        commits = Array(repeating: 0, count: Self.commitEdges.count + 1)
        commitSeconds = 0
        inputs = 0
    }

    package mutating func add(_ inputs: Int, _ seconds: Double) {
        for index in Self.commitEdges.indices where seconds <= Self.commitEdges[index] { commits[index] += 1 }
        commits[Self.commitEdges.count] += 1
        commitSeconds += seconds
        self.inputs += inputs
    }
}
