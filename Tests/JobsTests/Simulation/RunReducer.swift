import Foundation

@testable import Jobs

/// What is under test: how a run changes. The real one, or one that was broken on purpose.
protocol RunReducer: Sendable {
    init()
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect]
    /// Of the router around it: what it reads from the ledger when it starts.
    var rereadsOutbox: Bool { get }
    var rereadsLeases: Bool { get }
}

extension RunReducer {
    var rereadsOutbox: Bool { true }
    var rereadsLeases: Bool { true }
}

struct RealReducer: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] { run.apply(input, at: now) }
}

/// A rule that did not hold.
struct Violation: Error, Hashable, CustomStringConvertible {
    /// `I1` to `I14` as in docs/failure-windows.md, or a word.
    var rule: String
    var text: String

    var description: String { "\(rule): \(text)" }
}
