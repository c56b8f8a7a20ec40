/// Durations in classes that each hold those below too, as Prometheus counts them.
struct Histogram: Sendable, Hashable {
    /// Upper ends in seconds, ascending; one without end follows.
    let edges: [Double]
    /// How many were not above each edge, those without end last.
    private(set) var counts: [Int]
    private(set) var sum = 0.0

    init(edges: [Double]) {
        self.edges = edges
        counts = Array(repeating: 0, count: edges.count + 1)
    }

    var count: Int { counts[edges.count] }

    mutating func add(_ seconds: Double) {
        for index in edges.indices where seconds <= edges[index] { counts[index] += 1 }
        counts[edges.count] += 1
        sum += seconds
    }

    /// What jobs and runs take.
    static let work = Histogram(edges: [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400])
    /// What jobs wait.
    static let wait = Histogram(edges: [0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400])
}
