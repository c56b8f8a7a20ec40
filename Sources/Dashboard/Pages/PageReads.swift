import Foundation

/// What one page shows, and the newest fact that all of it knows: a page that says this number is told of everything after it.
struct PageReads {
    private let shared: SharedReads
    private let overviews: Recent<Overview>
    private(set) var fact: Int64

    /// - Parameter fact: the newest one before anything was read.
    init(_ shared: SharedReads, _ overviews: Recent<Overview>, from fact: Int64) {
        self.shared = shared
        self.overviews = overviews
        self.fact = fact
    }

    /// - Parameters:
    ///   - key: says all that `load` depends on.
    ///   - run: which run it is about; nil is many.
    mutating func get<Value: Sendable>(
        _ key: String, of run: String? = nil, _ load: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        know(try await shared.get(key, of: run, load))
    }

    mutating func overview() async throws -> Overview { know(try await overviews.reading()) }

    mutating func ended(_ range: ChartRange, _ bars: EndedBars, at now: Date) async throws -> EndedBars.Activity {
        know(try await shared.ended(range, bars, at: now))
    }

    /// - Parameter fact: the newest one that some part of the page is sure to know.
    mutating func know(_ fact: Int64) { self.fact = min(self.fact, fact) }

    private mutating func know<Value>(_ reading: Recent<Value>.Reading) -> Value {
        know(reading.version)
        return reading.value
    }
}
